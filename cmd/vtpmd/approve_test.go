package main

import (
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/vtpmbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// What aem-setup approves for the machine's next boot, vtpmctl approve has the store open in, and nothing
// else. Both have their counters in one TPM.
func TestTheStoreFollowsWhatTheMachineApproves(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			s := vtpmbed.New(t, v, vtpmd)
			home := aem.OpenHome(filepath.Join(s.Dir, "home"))
			next := func(line string) *drtm.Boot {
				return &drtm.Boot{Kind: drtm.Linux, Image: s.Launch.Kernel, Initrd: s.Launch.Initrd, Line: line}
			}
			set := func(do func(m *aem.Machine)) {
				t.Helper()
				m, closer, err := aem.Open(aem.Where{TPM: s.TPM(), Log: filepath.Join(s.Dir, "log")}, nil)
				must(t, err)
				defer closer.Close()
				do(m)
			}
			set(func(m *aem.Machine) {
				_, err := m.Init(home, filepath.Join(s.Dir, "medium"), nil)
				must(t, err)
				must(t, m.SetText(home, []byte("the lighthouse keeper sleeps")))
			})
			s.Do(aem.ExitOK, "The store", "init")
			d := s.Start()
			if _, err := s.Approve(t.Context()); err == nil {
				t.Error("nothing is approved, and it was taken over")
			}
			vtpm := s.New("a guest", "2.0")
			who := s.Identity(vtpm)
			d.Stop()
			set(func(m *aem.Machine) {
				boot, err := m.Boot()
				must(t, err)
				state, err := m.Next(boot, next("updated"), s.Dir, "updated")
				must(t, err)
				_, err = m.Seal(home, []seal.State{*state}, nil)
				must(t, err)
			})
			d = s.Start()
			a, err := s.Approve(t.Context())
			must(t, err)
			if len(a.Before) != 1 || len(a.After) != 2 {
				t.Errorf("%+v: the running boot and the next one are to be approved", a)
			}
			d.Kill() // what was approved is approved

			s.Boot("evil")
			s.Do(aem.ExitMeasurements, "not one that was approved")
			s.Boot("updated")
			d = s.Start()
			if s.Identity(vtpm) != who {
				t.Error("after the update, the vTPM is another one")
			}
			// Where the running boot is approved, nothing else stays.
			if a, err = s.Approve(t.Context()); err != nil || len(a.After) != 1 {
				t.Errorf("%+v, %v", a, err)
			}
			d.Stop()
			s.Boot("approved")
			s.Do(aem.ExitMeasurements, "not one that was approved")
		})
	}
}
