package main

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/antievilmaid/aem/tpm"
)

// hashing times content of the size of an initramfs in each bank alone, by the standard
// library and nothing else, and in several banks in one pass, in turn.
func hashing() error {
	content := make([]byte, 100e6)
	banks := []tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512}
	sets := [][]tpm.Alg{banks[:3], banks}
	alone := make([][]cost, len(banks))
	together := make([][]cost, len(sets))
	for range runs {
		for i, a := range banks {
			c, err := spent(func() error { a.Sum(content); return nil })
			if err != nil {
				return err
			}
			alone[i] = append(alone[i], c)
		}
		for i, algs := range sets {
			c, err := spent(func() error {
				_, err := tpm.SumReader(algs, bytes.NewReader(content))
				return err
			})
			if err != nil {
				return err
			}
			together[i] = append(together[i], c)
		}
	}
	for i, a := range banks {
		fmt.Printf("| hashing 100 MB in %s alone | %s ms |\n", a, spread(walls(alone[i])))
	}
	for i, algs := range sets {
		names := make([]string, len(algs))
		var single []float64 // the least that each bank took
		for k, a := range algs {
			names[k], single = a.String(), append(single, slices.Min(processors(alone[k])))
		}
		name := strings.Join(names, ", ")
		fmt.Printf("| in %s in one pass | %s ms |\n", name, spread(walls(together[i])))
		var beside []float64
		for run := range runs {
			slowest := 0.0
			for k := range algs {
				slowest = max(slowest, alone[k][run].wall)
			}
			beside = append(beside, together[i][run].wall/slowest)
		}
		fmt.Printf("| beside the slowest of them alone, run by run | %s |\n", hundredths(beside))
		fmt.Printf("| the least that %d free cores allow | %.2f |\n", runtime.NumCPU(), least(single, runtime.NumCPU()))
		sum := 0.0
		for _, v := range single {
			sum += v
		}
		fmt.Printf("| processor time of the pass beside that of the banks one by one | %.2f |\n", slices.Min(processors(together[i]))/sum)
	}
	return nil
}

// cost is what something took, in milliseconds: by the clock, and of all processors. The
// latter hardly depends on what else runs on the machine.
type cost struct{ wall, processor float64 }

func walls(list []cost) (l []float64) {
	for _, c := range list {
		l = append(l, c.wall)
	}
	return l
}

func processors(list []cost) (l []float64) {
	for _, c := range list {
		l = append(l, c.processor)
	}
	return l
}

func spent(do func() error) (cost, error) {
	before, err := used()
	if err != nil {
		return cost{}, err
	}
	start := time.Now()
	if err := do(); err != nil {
		return cost{}, err
	}
	wall := time.Since(start)
	after, err := used()
	return cost{wall.Seconds() * 1000, (after - before).Seconds() * 1000}, err
}

// used is the processor time that this process has had.
func used() (time.Duration, error) {
	var r syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), err
}

// least is what all banks in one pass take beside the slowest, if nothing but their own
// work takes time: no less than the slowest, and no less than their sum on so many cores.
func least(banks []float64, cores int) float64 {
	sum, slowest := 0.0, slices.Max(banks)
	for _, v := range banks {
		sum += v
	}
	return max(slowest, sum/float64(cores)) / slowest
}
