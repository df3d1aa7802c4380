package uplink

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"

	"github.com/redis/go-redis/v9"

	"meterline/command"
)

// Append puts entries in, in their order within each partition, and returns when Redis has them as durably as it keeps
// anything, and so many replicas have received them as Options say. Each partition's entries go in all or none; an error means that some partitions' may not have, and the
// caller sends all of them again. ErrFull is known before anything is written, unless the partition filled up just now.
func (r *Redis) Append(ctx context.Context, entries []command.Uplink) error {
	if len(entries) == 0 {
		return nil
	}
	calls := r.appendCalls(entries)
	if err := r.room(ctx, calls); err != nil {
		r.metrics.failed(err, len(entries))
		return err
	}
	if err := r.appendAll(ctx, calls); err != nil {
		r.metrics.failed(err, len(entries))
		return err
	}
	r.metrics.appended.Add(float64(len(entries)))
	return nil
}

// fieldsPerEntry is how many arguments an entry takes in appendScript.
const fieldsPerEntry = 6

// appendCalls are the runs of appendScript for the entries, one per partition.
func (r *Redis) appendCalls(entries []command.Uplink) []call {
	var calls []call
	place := map[int]int{} // partition -> index into calls
	for _, e := range entries {
		i, ok := place[e.Partition]
		if !ok {
			i = len(calls)
			place[e.Partition] = i
			calls = append(calls, call{e.Partition, []any{r.opt.Limit, newGeneration()}})
		}
		calls[i].args = append(calls[i].args, string(e.Endpoint), e.Epoch, e.Gateway, string(e.Kind), e.Payload, checksum(e))
	}
	return calls
}

// room refuses the batch when a partition has none, before anything is written: other partitions' entries would be
// written again each time the caller tries.
func (r *Redis) room(ctx context.Context, calls []call) error {
	for _, c := range calls {
		n := int64(len(c.args) / fieldsPerEntry)
		r.mu.Lock()
		length := r.lengths[c.partition]
		r.mu.Unlock()
		if length == 0 || length+n <= int64(r.opt.Limit) {
			continue
		}
		length, err := r.client.XLen(ctx, keysOf(c.partition)[0]).Result() // trimmed meanwhile?
		if err != nil {
			return fmt.Errorf("look at the length of partition %d: %w", c.partition, err)
		}
		r.note(c.partition, length)
		if length > 0 && length+n > int64(r.opt.Limit) {
			return fmt.Errorf("append %d entries to partition %d, which has %d: %w", n, c.partition, length, ErrFull)
		}
	}
	return nil
}

func (r *Redis) note(partition int, length int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lengths[partition] = length
}

// outcome joins what the partitions answered.
func (r *Redis) outcome(calls []call, answers []*redis.Cmd) error {
	var errs []error
	for i, a := range answers {
		n := calls[i].partition
		length, err := a.Int64()
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("append to partition %d: %w", n, err))
		case length < 0:
			r.note(n, -length)
			errs = append(errs, fmt.Errorf("append to partition %d, which has %d: %w", n, -length, ErrFull))
		default:
			r.note(n, length)
		}
	}
	return errors.Join(errs...)
}

// wake tells readers that there may be something. They look by themselves when it is lost.
func wake(ctx context.Context, p redis.Pipeliner) { p.Publish(ctx, wakeChannel, "") }

// appendScript appends entries to a partition, all or none, and answers its length; or, when there is no room for them,
// its length negative. Either Redis refuses the first write (out of memory, read only) or takes them all.
//
//	KEYS 1 stream, 2 generation
//	ARGV 1 most entries, 2 a generation, should there be none, then of each entry: endpoint, epoch, gateway, kind,
//	     payload, checksum
var appendScript = redis.NewScript(`
local length = redis.call('XLEN', KEYS[1])
local coming = (#ARGV - 2) / 6
if length > 0 and length + coming > tonumber(ARGV[1]) then return -length end
redis.call('SET', KEYS[2], ARGV[2], 'NX')
for i = 3, #ARGV, 6 do
  redis.call('XADD', KEYS[1], '*', 'e', ARGV[i], 's', ARGV[i + 1], 'g', ARGV[i + 2], 'k', ARGV[i + 3],
    'p', ARGV[i + 4], 'c', ARGV[i + 5])
end
return length + coming
`)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is the CRC-32C (RFC 3720 B.4) of what is interpreted of an entry, 8 hexadecimal digits.
func checksum(e command.Uplink) string {
	head := make([]byte, 0, 128)
	head = append(head, e.Kind...)
	head = append(head, 0)
	head = append(head, e.Endpoint...)
	head = append(head, 0)
	head = strconv.AppendInt(head, e.Epoch, 10)
	head = append(head, 0)
	sum := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, e.Payload)
	return fmt.Sprintf("%08x", sum)
}
