package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// instances is how many guests run at once.
const instances = 500

// crowd runs many swtpms alone, then as many vTPMs.
func crowd(dir string, d *daemon) error {
	if err := alone(dir); err != nil {
		return err
	}
	var sockets []string
	for i := range instances {
		path, err := d.make(fmt.Sprint("guest ", i))
		if err != nil {
			return err
		}
		sockets = append(sockets, path)
	}
	// Started anew, so that making them is no part of its memory.
	if err := d.stop(); err != nil {
		return err
	}
	if err := d.start(); err != nil {
		return err
	}
	return served(d, sockets)
}

// served starts a guest at each socket.
func served(d *daemon, sockets []string) error {
	var guests []*guest
	defer func() {
		for _, g := range guests {
			g.Close()
		}
	}()
	before, err := settled()
	if err != nil {
		return err
	}
	var starts []float64
	own := func() error {
		hwm, err := peak(d.process.Process.Pid)
		if err != nil {
			return err
		}
		pss, err := pss(d.process.Process.Pid)
		if err != nil {
			return err
		}
		fmt.Printf("| vtpmd's own memory, %d vTPMs known, %d running: now (PSS), peak (VmHWM) | %.1f MB, %.1f MB |\n", len(sockets), len(guests), pss, hwm)
		return nil
	}
	for i, path := range sockets {
		if i == 0 || i == 100 {
			if err := own(); err != nil {
				return err
			}
		}
		start := time.Now()
		g, err := atSocket(path)
		if err != nil {
			return err
		}
		starts = append(starts, float64(time.Since(start).Microseconds())/1000)
		guests = append(guests, g)
	}
	if err := own(); err != nil {
		return err
	}
	children, err := childrenOf(d.process.Process.Pid)
	if err != nil {
		return err
	}
	return report("vTPMs of vtpmd", children, len(sockets), starts, before)
}

// alone starts as many swtpms, each over a state that is there already.
func alone(dir string) error {
	first, err := startPlain(filepath.Join(dir, "plain"))
	if err != nil {
		return err
	}
	first.stop()
	const name = "tpm2-00.permall"
	state, err := os.ReadFile(filepath.Join(dir, "plain", name))
	if err != nil {
		return err
	}
	var all []*plain
	defer func() {
		for _, p := range all {
			p.stop()
		}
	}()
	before, err := settled()
	if err != nil {
		return err
	}
	var starts []float64
	var pids []int
	for i := range instances {
		own := filepath.Join(dir, "plain", fmt.Sprint(i))
		if err := os.Mkdir(own, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(own, name), state, 0o600); err != nil {
			return err
		}
		start := time.Now()
		p, err := startPlain(own)
		if err != nil {
			return err
		}
		starts = append(starts, float64(time.Since(start).Microseconds())/1000)
		all, pids = append(all, p), append(pids, p.process.Process.Pid)
	}
	return report("swtpms alone", pids, instances, starts, before)
}

func report(what string, pids []int, want int, starts []float64, before float64) error {
	if len(pids) != want {
		return fmt.Errorf("%d processes were found for %d %s", len(pids), want, what)
	}
	sum := 0.0
	for _, pid := range pids {
		mb, err := pss(pid)
		if err != nil {
			return err
		}
		sum += mb
	}
	now, err := settled()
	if err != nil {
		return err
	}
	n := float64(len(pids))
	fmt.Printf("| %d %s: memory (PSS) of all, of each | %.0f MB, %.2f MB |\n", len(pids), what, sum, sum/n)
	fmt.Printf("| %d %s: the kernel's own memory for all, for each | %.0f MB, %.2f MB |\n", len(pids), what, now-before, (now-before)/n)
	fmt.Printf("| %d %s: start of each | %s ms |\n", len(pids), what, spread(starts))
	return nil
}

// fields sums up lines such as "Pss: 12 kB", in megabytes.
func fields(path string, names ...string) (float64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	sum, found := 0.0, 0
	for line := range strings.Lines(string(b)) {
		for _, name := range names {
			var kb float64
			if n, _ := fmt.Sscanf(line, name+": %f kB", &kb); n == 1 {
				sum += kb / 1000
				found++
			}
		}
	}
	if found != len(names) {
		return 0, fmt.Errorf("%s does not tell all of %v", path, names)
	}
	return sum, nil
}

// pss is a process's memory, with its part of what it shares.
func pss(pid int) (float64, error) { return fields(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss") }

// kernel is what the kernel itself uses: for processes, namespaces, and states in memory file systems.
func kernel() (float64, error) {
	return fields("/proc/meminfo", "Slab", "KernelStack", "PageTables", "Percpu", "Shmem")
}

// settled is kernel when it does not change any more: namespaces of processes that have ended
// are taken down a little later.
func settled() (float64, error) {
	last, err := kernel()
	for range 60 {
		if err != nil {
			break
		}
		time.Sleep(500 * time.Millisecond)
		var now float64
		if now, err = kernel(); math.Abs(now-last) < 1 {
			return now, err
		}
		last = now
	}
	return last, err
}

// childrenOf lists the processes that a process started.
func childrenOf(pid int) ([]int, error) {
	entries, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		return nil, err
	}
	var list []int
	for _, path := range entries {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		var child, parent int
		for line := range strings.Lines(string(b)) {
			fmt.Sscanf(line, "Pid: %d", &child)
			fmt.Sscanf(line, "PPid: %d", &parent)
		}
		if parent == pid {
			list = append(list, child)
		}
	}
	return list, nil
}
