package main

import "testing"

// Two cores hash two slow banks and two fast ones no faster than in half their sum.
func TestTheLeastThatCoresAllow(t *testing.T) {
	for _, x := range []struct {
		banks []float64
		cores int
		want  float64
	}{
		{[]float64{1, 1, 2}, 2, 1}, {[]float64{1, 1, 2, 2}, 2, 1.5}, {[]float64{1, 1, 2, 2}, 3, 1}, {[]float64{1, 1, 2, 2}, 1, 3},
	} {
		if got := least(x.banks, x.cores); got != x.want {
			t.Errorf("%v on %d cores: %v; want %v", x.banks, x.cores, got, x.want)
		}
	}
}
