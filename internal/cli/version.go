package cli

// Version is the version of all programs and of the package.
const Version = "0.4.0"
