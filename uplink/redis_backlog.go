package uplink

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"meterline/command"
)

// measureEvery is how often Run looks how much the log holds.
const measureEvery = 2 * time.Second

// Alarms says what is wrong with the log, if anything: that it is nearly full.
func (r *Redis) Alarms() []string { return r.watch.Alarms() }

// Holds is what was seen last of what the log holds; false when it is not known.
func (r *Redis) Holds() (command.Holding, bool) {
	b, known := r.watch.Backlog()
	return command.Holding{Backlog: b, Bound: int64(r.opt.Limit)}, known
}

// Presses says that the log is nearly full or grows.
func (r *Redis) Presses() bool { return r.watch.Presses() }

// reached notes up to where a partition is in the record.
func (r *Redis) reached(p command.LogPosition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recorded[p.Partition] = p.Position
}

var (
	_ command.Owning   = (*Redis)(nil)
	_ command.Pressing = (*Redis)(nil)
)

// Owns forgets how far the other partitions are in the record: who owns them now knows that.
func (r *Redis) Owns(partitions []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.recorded, func(n int, _ command.Position) bool { return !slices.Contains(partitions, n) })
}

// places are the partitions that this process uses, and up to where those it reads are in the record.
func (r *Redis) places() (partitions []int, recorded map[int]command.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	recorded = make(map[int]command.Position, len(r.recorded))
	for n, p := range r.recorded {
		recorded[n] = p
		partitions = append(partitions, n)
	}
	for n := range r.lengths {
		if _, too := recorded[n]; !too {
			partitions = append(partitions, n)
		}
	}
	return partitions, recorded
}

// measure looks how much the partitions hold.
func (r *Redis) measure(ctx context.Context) error {
	partitions, recorded := r.places()
	lengths, sizes := make([]*redis.IntCmd, len(partitions)), make([]*redis.IntCmd, len(partitions))
	oldest := make([]*redis.XMessageSliceCmd, len(partitions))
	var info *redis.StringCmd
	var now *redis.TimeCmd
	_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, n := range partitions {
			stream := keysOf(n)[0]
			lengths[i], sizes[i] = p.XLen(ctx, stream), p.MemoryUsage(ctx, stream)
			if at, reads := recorded[n]; reads {
				start := "-"
				if at != "" {
					start = "(" + string(at)
				}
				oldest[i] = p.XRangeN(ctx, stream, start, "+", 1)
			}
		}
		info, now = p.Info(ctx, "memory"), p.Time(ctx)
		return nil
	})
	if now.Err() != nil { // what else failed is not there, or not allowed
		return fmt.Errorf("look at the backlog: %w", err)
	}
	b := command.Backlog{Share: memoryShare(info.Val())}
	for i := range partitions {
		b.Entries += lengths[i].Val()
		b.Bytes += sizes[i].Val()
		b.Share = max(b.Share, float64(lengths[i].Val())/float64(r.opt.Limit))
		if oldest[i] != nil && len(oldest[i].Val()) > 0 {
			b.Oldest = max(b.Oldest, now.Val().Sub(idTime(oldest[i].Val()[0].ID)))
		}
	}
	r.watch.Saw(b)
	return nil
}

// idTime is when an entry was appended.
func idTime(id string) time.Time {
	millis, _, _ := strings.Cut(id, "-")
	n, _ := strconv.ParseInt(millis, 10, 64) // ids are Redis's own
	return time.UnixMilli(n)
}

// memoryShare is how much of maxmemory is in use; 0 when none is set.
func memoryShare(info string) float64 {
	value := func(key string) float64 {
		_, after, _ := strings.Cut(info, "\n"+key+":")
		n, _ := strconv.ParseFloat(strings.TrimSpace(strings.SplitN(after, "\n", 2)[0]), 64)
		return n
	}
	if most := value("maxmemory"); most > 0 {
		return value("used_memory") / most
	}
	return 0
}
