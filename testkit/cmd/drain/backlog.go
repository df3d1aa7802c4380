//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
	"meterline/simulator"
	"meterline/store"
	"meterline/uplink"
)

const appendBatch = 2000

// backlog is what was put into the log.
type backlog struct {
	readings, results int
	began             time.Time // read_at of the first reading; each further one of a device is a second later
}

// asked issues one command per result of a device, to devices that are not connected: what answers wait for.
func asked(ctx context.Context, api *simulator.API, rounds int) ([]meterread.CommandID, error) {
	ids := make([]meterread.CommandID, 0, rounds)
	for range rounds {
		v, err := api.Issue(ctx, simulator.Order{Kind: command.MeterRead, Mode: command.Async, Targets: command.Selector{Group: "away"},
			Items: []meterread.Item{"1-0:1.8.0"}, TimeoutS: 3600}, uuid.NewString())
		if err != nil {
			return nil, err
		}
		ids = append(ids, v.ID)
	}
	return ids, nil
}

// fill appends the backlog as a gateway would, device by device in turn, results and readings mixed.
func (b *backlog) fill(ctx context.Context, r *rig, c config, away []simulator.Site, commands []meterread.CommandID) error {
	log, done, err := openLog(ctx, r, c.uplink)
	if err != nil {
		return err
	}
	defer done()
	b.began = time.Now().UTC().Truncate(time.Second).Add(-24 * time.Hour)
	batch := make([]command.Uplink, 0, appendBatch)
	for n := range c.backlog {
		round, site := n/len(away), away[n%len(away)]
		kind, payload := b.uplink(round, site.ID, commands, c)
		batch = append(batch, command.Uplink{Partition: fleet.Partition(site.ID, partitions), Endpoint: site.ID, Epoch: 1,
			Gateway: "g0/x", Kind: kind, Payload: payload})
		if len(batch) == appendBatch || n == c.backlog-1 {
			if err := log.Append(ctx, batch); err != nil {
				return fmt.Errorf("fill the log: %w", err)
			}
			batch = batch[:0]
		}
	}
	return nil
}

// openLog opens the uplink log that gateways append to; done gives back what it holds.
func openLog(ctx context.Context, r *rig, in string) (log command.Log, done func(), err error) {
	const enough = 10_000_000 // entries of a partition
	if in == "redis" {
		return uplink.NewRedis(r.redis, uplink.Options{Limit: enough}), func() {}, nil
	}
	db, err := store.Open(ctx, store.Options{URL: r.postgres.URL})
	if err != nil {
		return nil, nil, err
	}
	return db.UplinkLog(store.UplinkLogOptions{Bound: enough}), func() { _ = db.Close() }, nil
}

// partitions is what migrate sets.
const partitions = 16

// uplink is the next of a device: a result as long as the share of them is not reached and a command waits for one.
func (b *backlog) uplink(round int, device meterread.DeviceID, commands []meterread.CommandID, c config) (command.UplinkKind, []byte) {
	reading := map[string]any{"item": "1-0:1.8.0", "value": fmt.Sprintf("%d.25", 1000+round), "unit": "kWh",
		"read_at": b.began.Add(time.Duration(round) * time.Second)}
	if k := int(float64(round) * c.results); k < int(float64(round+1)*c.results) && k < len(commands) {
		b.results++
		return command.UplinkResult, encode(map[string]any{"v": 1, "message_id": uuid.NewString(), "results": []any{map[string]any{
			"command_id": commands[k], "device_id": device, "attempt": 1, "status": "ok", "final": true, "readings": []any{reading}}}})
	}
	b.readings++
	reading["device_id"] = device
	return command.UplinkReadings, encode(map[string]any{"v": 1, "message_id": uuid.NewString(), "readings": []any{reading}})
}

func encode(v any) []byte {
	b, _ := json.Marshal(v) // of maps of strings and numbers
	return b
}
