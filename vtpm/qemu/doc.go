// Package qemu gives QEMU's guests their vTPMs: it speaks swtpm's part of the protocol
// that QEMU's -tpmdev emulator speaks (and with it libvirt's external emulator), in
// front of a [vtpm.Keeper].
//
// QEMU connects to a control socket and hands over one end of a data channel. On the
// control socket it says what happens to the machine, on the data channel it passes on
// what the guest's driver sends. QEMU 7.2 does this, with tpm-tis:
//
//	SET_DATAFD            the data channel; the TPM is off
//	(data) TPM2_ReadClock      answered with a failure, whose tag tells the family:
//	(data) TPM_GetTicks        this one is sent only to what is no TPM 2.0
//	GET_CAPABILITY        what is missing here blocks QEMU's migration and snapshots
//	STOP, SET_BUFFERSIZE 0     asks for the buffer's size; twice, at the start and at each reset
//	STOP, SET_BUFFERSIZE n     the lesser of it and of what the device has room for
//	INIT                  the machine starts
//	GET_TPMESTABLISHED, SET_LOCALITY, (data) the guest's commands
//	STOP, SET_BUFFERSIZE 0, STOP, SET_BUFFERSIZE n, INIT     the machine was reset
//	SHUTDOWN              QEMU ends; when it is killed, the connection just ends
//
// So an INIT is a power-on, and a STOP alone is nothing. A connection is a fresh guest, for
// which the keeper prepares its vTPM when the first request comes; an INIT after the
// guest has used it is [vtpm.Session.Reset], and the connection's end is
// [vtpm.Session.End]: QEMU never connects again for the same guest. One reboot of Linux's
// may be three resets in a row for QEMU; it is one for the vTPM.
//
// Nor can it: -chardev socket,reconnect=N connects when QEMU's main loop runs, and -tpmdev speaks before that, so
// that QEMU 7.2 ends with "Failed to send CMD_SET_DATAFD" (seen). The data channel is handed over at QEMU's
// start alone in any case (backends/tpm/tpm_emulator.c), and would stay dead after a second connection.
//
// # What a guest and its QEMU can't do here
//
// Locality 4 and the hash sequence are the launcher's: how PCR 17 came about is what
// guests inherit. Localities 1 to 3 reach the session, which answers as a TPM answers
// (TPM_RC_LOCALITY); a refusal on the control socket would look like a broken TPM
// to the guest, because QEMU makes a TPM_FAIL of it. State does not leave and does not
// enter: without the capabilities QEMU refuses to migrate or to save such a guest, in words.
//
// # What the guest's firmware measures
//
// PCRs 0 to 7 are the firmware's. Of a kernel that QEMU's -kernel loads, SeaBIOS measures nothing. OVMF measures it
// into PCR 4 as QEMU hands it over, which has written the length of the initramfs into its header (seen with
// QEMU 7.2): with another initramfs PCR 4 is another one, too.
//
// # Suspend to RAM
//
// QEMU resets its devices when a guest wakes from suspend to RAM, in the very words of a
// machine's reset. So a guest that runs on gets fresh PCRs, launch and all, and can extend
// them as a guest that it is not (seen with QEMU 7.2; SeaBIOS, on top, takes the TPM of a guest that
// wakes for a broken one). Nothing on this socket tells the two apart. A guest whose PCRs
// are to mean something must run without suspend to RAM: with
// -global ICH9-LPC.disable_s3=1 (i440fx: PIIX4_PM.disable_s3=1), in libvirt
// <pm><suspend-to-mem enabled='no'/></pm>.
package qemu
