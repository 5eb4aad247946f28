package xl

var WithoutLoader = withoutLoader
