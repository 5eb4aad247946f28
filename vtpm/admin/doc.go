// Package admin is how the machine's owner speaks to the vTPM manager: HTTP with JSON on a
// unix socket.
//
// The kernel says who is at the other end (unix(7), SO_PEERCRED). Root may do everything; members of one
// group may look. There is no other way in: no password, no port, and nothing of it can be reached
// through a vTPM.
//
//	GET    /v1/status                  the host, the store, what is missing         group
//	GET    /v1/vtpms?after=UUID&n=N    a page of the list                           group
//	GET    /v1/vtpms/UUID              one of them                                  group
//	GET    /v1/vtpms/UUID/log          its guest's measurement log, as it is        group
//	GET    /metrics                    for Prometheus                               group
//	POST   /v1/vtpms                   make one                                     root
//	DELETE /v1/vtpms/UUID              destroy one                                  root
//	POST   /v1/run, /v1/stop           start and end a guest of Xen's; words come as it goes on
//	POST   /v1/suspend, /v1/resume     put one into an image, and have it go on   root
//	POST   /v1/boot                    what libxl's boot loader asks for            root
//	POST   /v1/approve                 take over which boots the machine approves   root
//	POST   /v1/verify                  read and prove the whole store               root
//	GET    /v1/backup                  a copy of the store                          root
//	POST   /v1/escrow                  the store's key, encrypted, is given out     root
//	GET    /v1/audit                   the journal, and whether it is whole         root
//	POST   /v1/audit/accept            take it as it is                             root
package admin
