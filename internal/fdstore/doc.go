// Package fdstore has somebody else hold a program's open files, so that they outlive the program: a
// daemon that is killed and started anew finds its sockets open and the processes behind
// them running.
//
// Who holds them is systemd's file descriptor store. The words are those of sd_notify(3)
// (FDSTORE=1, FDNAME=, FDSTOREREMOVE=1, FDPOLL=0, BARRIER=1), sent as datagrams to $NOTIFY_SOCKET
// with the files as SCM_RIGHTS (sd_pid_notify_with_fds(3)); they come back at the next start as
// sd_listen_fds(3) says. The unit needs FileDescriptorStoreMax=, and KillMode=process where processes
// are to live on, too.
//
// [Keeper] is a stand-in for systemd, for machines without it and for tests: a parent process that holds the files
// and starts the daemon again.
package fdstore
