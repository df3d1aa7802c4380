//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// plot draws what the report has: what each process pays for one, how near the goals are, and how figures change with size.
func plot(dir string, r *report) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("draw: %w", err)
	}
	for name, drawing := range map[string]string{
		"cpu.svg":   stacks("CPU of each process, µs for each reading, uplink, round trip, …", costs(r)),
		"goals.svg": bars("Figures by their goals: 1 is the goal, and further right is better", goals(r)),
	} {
		if err := save(dir, name, drawing); err != nil {
			return err
		}
	}
	for _, one := range r.Results {
		for name, lines := range growth(one) {
			title := fmt.Sprintf("%s, --uplink %s: %s, by size", one.Case, one.Uplink, name)
			if err := save(dir, fileName("growth", one.Case, one.Uplink, name), curves(title, lines)); err != nil {
				return err
			}
		}
	}
	return nil
}

func save(dir, name, drawing string) error {
	if drawing == "" {
		return nil
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(drawing), 0o600); err != nil {
		return fmt.Errorf("draw: %w", err)
	}
	return nil
}

// fileName makes one of words.
func fileName(words ...string) string {
	apart := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }
	return strings.Join(strings.FieldsFunc(strings.ToLower(strings.Join(words, "-")), apart), "-") + ".svg"
}

// bar is one row of a drawing.
type bar struct {
	label string
	parts []part
}

type part struct {
	name  string
	value float64
}

// costs are a row for each case, of those without sizes.
func costs(r *report) (all []bar) {
	for _, one := range r.Results {
		b := bar{label: one.Case + ", " + one.Uplink}
		for _, f := range one.Figures {
			if name, is := strings.CutPrefix(f.Name, cpuOf); is && f.Size == 0 {
				b.parts = append(b.parts, part{name, f.Median})
			}
		}
		if len(b.parts) > 0 {
			all = append(all, b)
		}
	}
	return all
}

// goals are a row for each figure that has one.
func goals(r *report) (all []bar) {
	for _, one := range r.Results {
		for _, f := range one.Figures {
			if f.Goal == 0 || f.Median == 0 {
				continue
			}
			v := f.Median / f.Goal
			if f.Less {
				v = 1 / v
			}
			all = append(all, bar{fmt.Sprintf("%s, %s: %s", one.Case, one.Uplink, f.label()), []part{{"", v}}})
		}
	}
	return all
}

// point is what a figure was at a size.
type point struct{ size, value float64 }

// growth are lines of the figures that a case has at several sizes, by name and unit. What each process pays is one drawing.
func growth(one result) map[string]map[string][]point {
	all := map[string]map[string][]point{}
	for _, f := range one.Figures {
		if f.Size == 0 {
			continue
		}
		drawing, line := f.Name+", "+f.Unit, f.Name
		if process, is := strings.CutPrefix(f.Name, cpuOf); is {
			drawing, line = "CPU, "+f.Unit, process
		}
		if all[drawing] == nil {
			all[drawing] = map[string][]point{}
		}
		all[drawing][line] = append(all[drawing][line], point{float64(f.Size), f.Median})
	}
	for name, lines := range all {
		for line, points := range lines {
			slices.SortFunc(points, func(a, b point) int { return int(a.size - b.size) })
			if len(points) < 2 {
				delete(lines, line)
			}
		}
		if len(lines) == 0 {
			delete(all, name)
		}
	}
	return all
}
