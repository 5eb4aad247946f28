// Package ima reads the measurement list of Linux's Integrity Measurement
// Architecture: which files a running system opened, executed or mapped, each
// extended into PCR 10 (Linux, Documentation/security/IMA-templates.rst).
//
// A list grows as long as the system runs, to hundreds of megabytes, so it is
// read entry by entry and nothing is kept. Entries come in three forms:
//
//   - binary_runtime_measurements: [NewReader]. Its numbers are in the machine's
//     byte order; this package reads little-endian ones.
//   - ascii_runtime_measurements: [NewTextReader].
//   - binary_runtime_measurements_sha256 and others of newer kernels, where the
//     template digest has another width. The file does not say which; it is
//     recognised by where the first template's name stands.
//
// PCRs 17 and 18 are not in a boot_aggregate. Who roots IMA in a dynamic launch
// must check 17, 18 and 10 together.
package ima
