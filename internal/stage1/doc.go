// Package stage1 is the part of "aem launch" that touches the machine: it reads the
// files that are to be started, hands them to the kernel, puts the log where the next
// stage finds it, and starts that. In which order, and what becomes of the PCRs where
// something fails, is decided in package launch.
//
// Each file is read once, into memory that this process alone has. Those bytes are
// hashed, and those bytes go to the kernel: nobody can swap a file in between, on the
// disk or by the disk's own controller.
package stage1
