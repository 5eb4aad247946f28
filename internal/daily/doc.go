// Package daily is the life of a sealed secret on a real Debian with an encrypted
// root, played by tests: from the installation to the day when it is taken away again.
package daily
