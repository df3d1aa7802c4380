//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// finding is what one run of a case came to.
type finding struct {
	Figures []figure
	Check   check
	// The load side: what it did so many of, in which shape, and what that cost it.
	did   int
	shape shape
	spent spent
	Load  load
}

// figure is one number that was measured, over all runs of a case.
type figure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Size   int       `json:"size,omitempty"` // how many there were of what the case varies
	Goal   float64   `json:"goal,omitempty"` // 0: none
	Less   bool      `json:"less_is_better,omitempty"`
	Runs   []float64 `json:"runs"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
}

// more is a figure that is the better the more it is. A goal of 0 is none.
func (f *finding) more(name, unit string, value, goal float64) {
	f.Figures = append(f.Figures, figure{Name: name, Unit: unit, Goal: goal, Runs: []float64{value}})
}

// less is a figure that is the better the less it is.
func (f *finding) less(name, unit string, value, goal float64) {
	f.Figures = append(f.Figures, figure{Name: name, Unit: unit, Goal: goal, Less: true, Runs: []float64{value}})
}

// of says how many there were that the last figures are of, from the one at from on.
func (f *finding) of(size, from int) {
	for i := range f.Figures[from:] {
		f.Figures[from+i].Size = size
	}
}

// cpuOf begins the names of what processes used; plots are made of them.
const cpuOf = "CPU, "

// each is what every process used for one of n.
func (f *finding) each(s spent, n int, unit string) {
	for _, p := range []struct {
		name string
		used float64
	}{{"gateway", s.gateway}, {"backend", s.backend}, {"PostgreSQL", s.postgres}, {"Redis", s.redis}, {"load", s.load}} {
		f.less(cpuOf+p.name, "µs/"+unit, p.used*1e6/float64(n), 0)
	}
}

// per is a ratio; nothing by next to nothing, which is less than can be told, is 0.
func per(a, b float64) float64 {
	const tick = 0.01 // seconds; CPU is not told more finely
	if b < tick/2 {
		return 0
	}
	return a / b
}

// add takes the figures of one more run.
func (r *result) add(f *finding) {
	r.Runs++
	r.Checks = append(r.Checks, f.Check)
	r.Loads = append(r.Loads, f.Load)
	for _, one := range f.Figures {
		i := slices.IndexFunc(r.Figures, func(have figure) bool { return have.Name == one.Name && have.Size == one.Size })
		if i < 0 {
			r.Figures = append(r.Figures, one)
			continue
		}
		r.Figures[i].Runs = append(r.Figures[i].Runs, one.Runs...)
	}
	for i := range r.Figures {
		r.Figures[i].sumUp()
	}
}

// sumUp finds the median, of an even number the mean of the two in the middle, and how far the runs lie apart.
func (f *figure) sumUp() {
	sorted := slices.Sorted(slices.Values(f.Runs))
	n := len(sorted)
	f.Min, f.Max = sorted[0], sorted[n-1]
	f.Median = (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// reached says whether the median reaches the goal: yes, no, or nothing where it could not be told.
func (f figure) reached() string {
	switch {
	case f.Median == 0:
		return ""
	case f.Less == (f.Median < f.Goal), f.Median == f.Goal:
		return "yes"
	}
	return "no"
}

// short is a number as people read it: three digits that say something, or all before the point.
func short(v float64) string {
	if v == 0 || math.Abs(v) >= 100 || math.IsNaN(v) {
		return thousands(int64(math.Round(v)))
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(v))))
	return strconv.FormatFloat(v, 'f', min(digits, 6), 64)
}

// thousands is a whole number in groups of three digits.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	if n > -10_000 && n < 10_000 {
		return s
	}
	for at := len(s) - 3; at > 0 && s[at-1] != '-'; at -= 3 {
		s = s[:at] + " " + s[at:]
	}
	return s
}

// label is the name with the size.
func (f figure) label() string {
	if f.Size == 0 {
		return f.Name
	}
	return fmt.Sprintf("%s, %s", thousands(int64(f.Size)), f.Name)
}
