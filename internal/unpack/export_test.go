package unpack

// LZO1X unpacks a block. In lzop's container a block is never longer than its
// contents, so small ones can't be tried there.
func LZO1X(src []byte, size int) ([]byte, error) { return lzo1x(nil, src, size) }
