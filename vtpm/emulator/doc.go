// Package emulator runs one swtpm for each guest, and trusts it with nothing but that guest.
//
// Two parties are hostile here. The guest sends its commands to a large C program, so it may one
// day own that process: the process therefore has a user of its own, sees no file but its
// libraries and its state, no network, no other process, and holds no descriptor but two sockets
// of ours. And whoever writes the disk may put any bytes in place of a state: swtpm
// checks them with the vTPM's own key, and where it would rather begin a new TPM than read
// them, it is stopped before the guest can speak to it.
//
// The state belongs to the manager. It is handed to swtpm in a memory file system that only this
// one process sees, and read back after each command that changed it: [Emulator.Execute]
// says so together with the answer, so that the manager can make the new state last before
// the guest learns that its command was done.
//
// # Power
//
// A TPM is switched on in this order, and a guest can't reach any step of it:
//
//	SET_BUFFERSIZE      4088 bytes, what a Xen frontend's page holds; only while it is off
//	INIT                power; the state is read
//	TPM2_Startup        PCRs 0 to 16 zero, 17 to 22 ones: nothing was launched
//	close the platform  no command with platform authorisation, until the next INIT
//	HASH_START to _END  locality 4: PCR 17 is what the vTPM inherits from its host
//	extends             locality 2: PCR 18 and what the guest starts with
//
// The hash sequence must come behind Startup: before it, it would be the static root's
// and end in PCR 0 (TPM Library, Part 1, clause 34.3). After it, the guest is kept to the locality
// that its policy says, and can neither alter nor imitate PCRs 17 and 18.
//
// Switching off is an act, too: a TPM 2.0 that was not told of it by TPM2_Shutdown counts each start
// after the use of a protected object as a wrong try, and locks its owner out after three.
package emulator
