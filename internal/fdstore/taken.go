package fdstore

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// first is the number of the first file that is handed over (SD_LISTEN_FDS_START).
const first = 3

// Taken returns the files that were held for us, by their names; sockets that the service manager
// made are among them. They are the caller's. It takes them once: the second time there are none. It comes before
// any child is started, which would inherit them, and with them another guest's TPM.
func Taken() map[string][]*os.File { return taken() }

var taken = func() func() map[string][]*os.File {
	var once sync.Once
	return func() (all map[string][]*os.File) {
		once.Do(func() { all = take() })
		return all
	}
}()

func take() map[string][]*os.File {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	// A child of ours must not take them for its own.
	for _, v := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(v)
	}
	n, err := strconv.ParseUint(count, 10, 20)
	if err != nil || pid != strconv.Itoa(os.Getpid()) {
		return nil
	}
	all := map[string][]*os.File{}
	for i := range int(n) {
		name := "unknown" // as sd_listen_fds_with_names(3) calls it
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		unix.CloseOnExec(first + i)
		all[name] = append(all[name], os.NewFile(uintptr(first+i), name))
	}
	return all
}
