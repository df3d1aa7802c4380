//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"reflect"
)

// compare prints what figures of two files came to, side by side, with the ratio of the second to the first. It says where they
// were not measured alike.
func compare(w io.Writer, before, after string) error {
	a, err := readReport(before)
	if err != nil {
		return err
	}
	b, err := readReport(after)
	if err != nil {
		return err
	}
	if a.Profiled || b.Profiled {
		return errors.New("compare: profiles were taken while one of them was measured, which is in its figures")
	}
	if a.Machine.CPU != b.Machine.CPU || a.Machine.Cores != b.Machine.Cores {
		fmt.Fprint(w, "**Measured on different machines.**\n\n")
	}
	head(w, "case", "uplink", "figure", "unit", a.Commit, b.Commit, "ratio", "that is")
	both := 0
	for _, now := range b.Results {
		was := a.find(now.Case, now.Uplink)
		if was == nil {
			continue
		}
		alike := reflect.DeepEqual(was.Options, now.Options)
		for _, f := range now.Figures {
			old := was.find(f)
			if old == nil {
				continue
			}
			both++
			row(w, now.Case, now.Uplink, f.label(), f.Unit, short(old.Median), short(f.Median), ratio(f.Median, old.Median), verdict(*old, f, alike))
		}
	}
	if both == 0 {
		return errors.New("compare: the two files have no figure in common")
	}
	return nil
}

func (r *report) find(name, uplink string) *result {
	for i, one := range r.Results {
		if one.Case == name && one.Uplink == uplink {
			return &r.Results[i]
		}
	}
	return nil
}

func (r *result) find(f figure) *figure {
	for i, one := range r.Figures {
		if one.Name == f.Name && one.Size == f.Size {
			return &r.Figures[i]
		}
	}
	return nil
}

func ratio(now, was float64) string {
	if was == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", now/was)
}

// verdict says more than that it may be chance only when no run of one was within the runs of the other.
func verdict(was, now figure, alike bool) string {
	switch {
	case !alike:
		return "measured in another way"
	case now.Min <= was.Max && was.Min <= now.Max:
		return "within the runs"
	case now.Less == (now.Median < was.Median):
		return "better"
	}
	return "worse"
}
