package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"meterline/testkit"
	"meterline/testkit/proxy"
)

func (s *scene) downServer(ctx context.Context, name string, p testkit.Process, end func() error) error {
	pid := p.PID()
	if err := end(); err != nil {
		return err
	}
	s.saw("%s is down, process %d", name, pid)
	if err := s.keep(ctx); err != nil {
		return err
	}
	return p.Start()
}

func (s *scene) pauseServer(ctx context.Context, name string, p testkit.Process) error {
	pid := p.PID()
	if err := p.Pause(); err != nil {
		return err
	}
	s.saw("%s stands still, process %d", name, pid)
	return errors.Join(s.keep(ctx), p.Resume())
}

func killRedis(ctx context.Context, s *scene) error {
	return s.downServer(ctx, "Redis", s.Redis.Process, s.Redis.Kill)
}

func pauseRedis(ctx context.Context, s *scene) error {
	return s.pauseServer(ctx, "Redis", s.Redis.Process)
}

func restartPostgres(ctx context.Context, s *scene) error {
	return s.downServer(ctx, "PostgreSQL", s.Postgres.Process, s.Postgres.Stop)
}

func killPostgres(ctx context.Context, s *scene) error {
	return s.downServer(ctx, "PostgreSQL", s.Postgres.Process, s.Postgres.Kill)
}

func stopPostgres(ctx context.Context, s *scene) error {
	return s.downServer(ctx, "PostgreSQL", s.Postgres.Process, s.Postgres.Stop)
}

func pausePostgres(ctx context.Context, s *scene) error {
	return s.pauseServer(ctx, "PostgreSQL", s.Postgres.Process)
}

// torn is the beginning of an entry of the append-only file, as a power failure leaves it: of an entry that was never
// acknowledged, since what is acknowledged is synced.
const torn = "*5\r\n$4\r\nXADD\r\n$20\r\nmeterline:upl"

// tearRedis kills Redis and leaves half an entry at the end of its file.
func tearRedis(ctx context.Context, s *scene) error {
	return s.downServer(ctx, "Redis", s.Redis.Process, func() error {
		if err := s.Redis.Kill(); err != nil {
			return err
		}
		file, err := lastAOF(s.Redis.Dir())
		if err != nil {
			return err
		}
		tail := torn[:1+s.rand.IntN(len(torn)-1)]
		s.saw("%s ends with %d bytes of an entry", filepath.Base(file), len(tail))
		return appendTo(file, tail)
	})
}

func appendTo(file, text string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// lastAOF is the file that Redis appends to.
func lastAOF(dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "appendonlydir", "*.incr.aof"))
	if err != nil {
		return "", err
	}
	if len(files) == 0 {
		return "", errors.New("find the append-only file of Redis: there is none")
	}
	slices.SortFunc(files, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b) // the number in the name has no leading zeros
		}
		return slices.Compare([]byte(a), []byte(b))
	})
	return files[len(files)-1], nil
}

func flushRedis(ctx context.Context, s *scene) error {
	if err := s.Redis.FlushAll(ctx); err != nil {
		return err
	}
	s.saw("FLUSHALL")
	return nil
}

// emptyRedis kills Redis and takes its disk away.
func emptyRedis(ctx context.Context, s *scene) error {
	return s.downServer(ctx, "Redis", s.Redis.Process, func() error {
		if err := s.Redis.Kill(); err != nil {
			return err
		}
		return os.RemoveAll(filepath.Join(s.Redis.Dir(), "appendonlydir"))
	})
}

// fillRedis lets no file of Redis grow any more, as a full disk does: Redis cannot write what it was asked to, and exits.
func fillRedis(ctx context.Context, s *scene) error {
	file, err := lastAOF(s.Redis.Dir())
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return s.fill(ctx, "Redis", s.Redis.Process, uint64(info.Size())+1)
}

// fillPostgres lets no file of PostgreSQL grow past a page: it cannot write its log, and ends.
func fillPostgres(ctx context.Context, s *scene) error {
	const page = 8 << 10
	return s.fill(ctx, "PostgreSQL", s.Postgres.Process, page)
}

// fill limits the files of a server until it has ended, which takes somebody who writes, and starts it again after the fault's
// time: somebody has made room.
func (s *scene) fill(ctx context.Context, name string, p testkit.Process, size uint64) error {
	pids := p.PIDs()
	if len(pids) == 0 {
		return fmt.Errorf("fill the disk of %s: it is down", name)
	}
	for _, pid := range pids { // the first is the parent of those that begin from now on
		err := limitFiles(ctx, pid, size)
		if _, gone := os.Stat("/proc/" + strconv.Itoa(pid)); err != nil && gone == nil {
			return errors.Join(fmt.Errorf("fill the disk of %s: %w", name, err), p.Kill()) // what is limited must not stay
		}
	}
	err := until(ctx, name+" cannot write any more", func() error {
		if p.PID() != 0 {
			return errNotYet
		}
		return nil
	})
	if err != nil {
		return errors.Join(ErrNotHit, err, p.Kill())
	}
	s.saw("%s could not write and has ended, process %d", name, pids[0])
	if err := s.keep(ctx); err != nil {
		return err
	}
	return p.Start()
}

// commitMessage is how the driver asks for a COMMIT: a simple query of the PostgreSQL protocol.
var commitMessage = []byte("Q\x00\x00\x00\x0bCOMMIT\x00")

// cutCommit cuts the connection between a COMMIT and its answer: that of an owner, or of a gateway that appends.
func cutCommit(ctx context.Context, s *scene) error {
	n, err := s.worker(ctx)
	if err != nil {
		return err
	}
	if s.Uplink() == "store" && s.rand.IntN(2) == 0 {
		n = one(s, s.Gateways)
	}
	if n.Postgres == nil {
		return fmt.Errorf("%w: there are no proxies", ErrNotHit)
	}
	for range 1 + s.rand.IntN(3) {
		ctx, stop := context.WithTimeout(ctx, settleWithin)
		select {
		case <-n.Postgres.CutAfter(commitMessage):
			s.saw("a COMMIT of %s was carried and not answered", n.Name)
		case <-ctx.Done():
			stop()
			return fmt.Errorf("%w: %s committed nothing", ErrNotHit, n.Name)
		}
		stop()
	}
	return nil
}

// part holds back what goes through the proxy in the given directions, or lets it vanish, for the fault's time.
func (s *scene) part(ctx context.Context, what string, p *proxy.Proxy, directions []proxy.Direction) error {
	if p == nil {
		return fmt.Errorf("%w: there are no proxies", ErrNotHit)
	}
	flow := one(s, []proxy.Flow{proxy.Stall, proxy.Drop})
	before := p.Stats()
	for _, d := range directions {
		p.Set(d, proxy.Link{Flow: flow})
	}
	if err := s.keep(ctx); err != nil {
		return err
	}
	after := p.Stats()
	if after.Held > before.Held || after.Lost > before.Lost {
		s.saw("%s: %d pieces held back, %d bytes lost", what, after.Held-before.Held, after.Lost-before.Lost)
	}
	return p.Heal()
}

func partGateway(directions ...proxy.Direction) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		n := one(s, s.Gateways)
		return s.part(ctx, n.Name+" and Redis", n.Redis, directions)
	}
}

func partBackend(directions ...proxy.Direction) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		n, err := s.worker(ctx)
		if err != nil {
			return err
		}
		return s.part(ctx, n.Name+" and PostgreSQL", n.Postgres, directions)
	}
}
