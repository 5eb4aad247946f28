package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/fdstore"
)

// keep does what systemd does for vtpmd: it starts a program again when it died, and holds its files
// meanwhile.
func keep(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	k, err := fdstore.NewKeeper()
	if err != nil {
		return err
	}
	defer k.Close()
	return k.Run(ctx, func(ctx context.Context) *exec.Cmd {
		c := exec.CommandContext(ctx, args[0], args[1:]...)
		c.Stdout, c.Stderr = os.Stdout, os.Stdout
		return c
	})
}

// slay kills the processes that run a program.
func slay(args []string) error {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return err
	}
	found := false
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(b)) != args[0] {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			return err
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			return err
		}
		found = true
	}
	if !found {
		return fmt.Errorf("no process runs %s", args[0])
	}
	return nil
}
