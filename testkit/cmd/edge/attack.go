//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// attack: others open idle sockets and slow CONNECTs, as many as they can get, while good devices come and go.
type attack struct {
	Processes int           `json:"attacker_processes"`
	Sockets   int           `json:"sockets_per_process"`
	Rate      int           `json:"sockets_per_second_and_process"`
	Good      int           `json:"good_devices"`
	PerSecond int           `json:"good_connects_per_second"`
	Patience  time.Duration `json:"patience_ns"`
	Before    time.Duration `json:"before_ns"`
	Duration  time.Duration `json:"duration_ns"`
	After     time.Duration `json:"after_ns"`
}

func (a *attack) flags(set *flag.FlagSet) {
	set.IntVar(&a.Processes, "attackers", 2, "processes that attack, from 127.0.0.2 to 127.0.0.9")
	set.IntVar(&a.Sockets, "sockets", 19000, "sockets that each of them holds at most")
	set.IntVar(&a.Rate, "rate", 2000, "sockets that each of them opens a second at most")
	set.IntVar(&a.Good, "good", 100, "good devices, which take turns: one that came and went all the time would be no good one")
	set.IntVar(&a.PerSecond, "connects", 10, "connects a second of the good devices")
	set.DurationVar(&a.Patience, "patience", 10*time.Second, "after which a good device gives a connect up")
	set.DurationVar(&a.Before, "before", 5*time.Second, "how long they connect alone")
	set.DurationVar(&a.Duration, "duration", 60*time.Second, "how long the attack lasts")
	set.DurationVar(&a.After, "after", 10*time.Second, "how long they connect afterwards")
}

func (a *attack) devices() int { return a.Good }

type attackRow struct {
	Broker string `json:"broker"`
	Phase  string `json:"phase"`
	figures
	Failed   int       `json:"failed"`
	Failures failures  `json:"failures,omitempty"`
	Worst    []float64 `json:"worst_of_each_second_ms"`
	FailedIn []int     `json:"failed_in_each_second"`
	Files    int       `json:"most_files_of_broker"`
	Attack   *harvest  `json:"attack,omitempty"`
}

func (a *attack) run(ctx context.Context, r *rig) (found finding, err error) {
	if a.Good < 1 {
		return found, errors.New("--good: must be at least 1")
	}
	found.Table = table{
		Title: fmt.Sprintf("good devices on 127.0.0.1 connect, %d times a second; attackers open idle sockets and slow CONNECTs from 127.0.0.2 to 127.0.0.9 for %s", a.PerSecond, a.Duration),
		Head: []string{"broker", "phase", "connects", "failed", "p50, ms", "p99", "max", "seconds with a failure", "files of the broker",
			"sockets of attackers: opened", "closed by the broker", "most at once"},
	}
	var rows []attackRow
	err = r.onEach(ctx, "attack", func(t *target) error {
		got, err := a.on(ctx, t)
		if err != nil {
			return err
		}
		if t.Ended() != nil {
			found.Table.note("%s died.", t.name)
		}
		if h := got[1].Attack; h.Most == 0 {
			found.Void = "the attackers have opened nothing"
		}
		rows = append(rows, got...)
		return nil
	})
	if err != nil {
		return found, err
	}
	for _, row := range rows {
		cells := append([]string{row.Broker, row.Phase, strconv.Itoa(row.N), row.Failures.cell()}, row.cells()...)
		cells = append(cells, fmt.Sprintf("%d of %d", secondsWith(row.FailedIn), len(row.FailedIn)), strconv.Itoa(row.Files))
		if h := row.Attack; h != nil {
			cells = append(cells, strconv.Itoa(h.Opened), strconv.Itoa(h.Closed), strconv.Itoa(h.Most))
		} else {
			cells = append(cells, "", "", "")
		}
		found.Table.add(cells...)
	}
	found.Rows = rows
	return found, nil
}

func secondsWith(failed []int) (n int) {
	for _, f := range failed {
		n += min(f, 1)
	}
	return n
}

func (a *attack) on(ctx context.Context, t *target) (rows []attackRow, err error) {
	g := newFleet(t, a.Good).devices
	row, err := a.connects(ctx, t, g, a.Before)
	if err != nil {
		return nil, err
	}
	row.Phase = "before"
	rows = append(rows, row)
	attackers, during := errgroup.WithContext(ctx)
	got := make([]harvest, a.Processes)
	for i := range got {
		attackers.Go(func() error { return a.attacker(during, t.addr, &got[i]) })
	}
	row, err = a.connects(ctx, t, g, a.Duration)
	if err := errors.Join(err, attackers.Wait()); err != nil {
		return nil, err
	}
	row.Phase, row.Attack = "attack", &harvest{}
	for _, one := range got {
		row.Attack.add(one)
	}
	rows = append(rows, row)
	if row, err = a.connects(ctx, t, g, a.After); err != nil {
		return nil, err
	}
	row.Phase = "after"
	return append(rows, row), nil
}

// attacker runs this program once more, as an attacker, until its time is over.
func (a *attack) attacker(ctx context.Context, addr string, got *harvest) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	var from []string
	for i := 2; i <= 9; i++ {
		from = append(from, "127.0.0."+strconv.Itoa(i))
	}
	cmd := exec.CommandContext(ctx, self, attackMode, addr, strings.Join(from, ","), strconv.Itoa(a.Sockets), strconv.Itoa(a.Rate), a.Duration.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, got)
	}
	if err != nil {
		return fmt.Errorf("an attacker failed: %w: %s", err, complaints.String())
	}
	return nil
}

func (h *harvest) add(one harvest) {
	h.Opened += one.Opened
	h.Refused += one.Refused
	h.Closed += one.Closed
	h.Most += one.Most
}

// connects lets good devices come and go for a while, in turn, whatever becomes of the connects before.
func (a *attack) connects(ctx context.Context, t *target, good []*device, lasts time.Duration) (attackRow, error) {
	seconds := int((lasts + time.Second - 1) / time.Second)
	row := attackRow{Broker: t.name, Worst: make([]float64, seconds), FailedIn: make([]int, seconds), Failures: failures{}}
	var mu sync.Mutex
	var times []time.Duration
	var all sync.WaitGroup
	during, stop := context.WithTimeout(ctx, lasts)
	defer stop()
	began, turn := time.Now(), 0
	every(during, time.Second, a.PerSecond, func(i int, due time.Time) {
		who := good[turn%len(good)].who
		if turn++; i == 0 {
			row.Files = max(row.Files, t.files())
		}
		all.Go(func() {
			patience, cancel := context.WithTimeout(ctx, a.Patience)
			defer cancel()
			s, err := dial(patience, t.addr, "", 0, who)
			took := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			second := min(int(due.Sub(began)/time.Second), seconds-1)
			times = append(times, took)
			row.Worst[second] = max(row.Worst[second], float64(took.Microseconds())/1000)
			if err != nil {
				row.Failed++
				row.FailedIn[second]++
				row.Failures[reason(err)]++
				return
			}
			_ = s.conn.Close()
		})
	})
	all.Wait()
	row.figures = figuresOf(times, 0)
	return row, ctx.Err()
}

// failures are tries that came to nothing, by reason.
type failures map[string]int

// cell is the sum, and what it is made of.
func (f failures) cell() string {
	sum, parts := 0, []string(nil)
	for why, n := range f {
		sum += n
		parts = append(parts, fmt.Sprintf("%d %s", n, why))
	}
	if sum == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", sum, strings.Join(parts, ", "))
}
