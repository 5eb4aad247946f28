package stage1

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Undisturbed keeps the program from being ended, or stopped, by who sits at the
// console or hangs up, until the returned function is called. Between the last extend and
// the start the PCRs hold what opens the owner's records: a program that ended there
// would leave them so to whatever comes next. Of the signals that can be ignored none is
// needed; SIGKILL and SIGSTOP are for root alone, who in this Linux is the code that was
// measured.
func Undisturbed() (again func()) {
	list := []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGUSR1, unix.SIGUSR2}
	signal.Ignore(list...)
	return func() {
		// Asked for and given back, a signal has its ordinary effect again; Reset alone
		// leaves it ignored.
		c := make(chan os.Signal, 1)
		signal.Notify(c, list...)
		signal.Stop(c)
	}
}
