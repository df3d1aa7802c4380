package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/mqtt"
)

// item is what the meters here measure.
const item = "1-0:1.8.0"

// uplink: what has its PUBACK is stored.
func uplink(ctx context.Context, b *bench) error {
	as, err := b.meter(ctx)
	if err != nil {
		return err
	}
	c, err := b.connect(ctx, as)
	if err != nil {
		return err
	}
	return first(
		func() error { return c.publish(ctx, readings(as.id, "12.5")) },
		func() error { return b.stored(ctx, as.id, "12.5") },
	)
}

func uplinkTopic(id string, c mqtt.Channel) string { return mqtt.UplinkTopic(fleet.DeviceID(id), c) }

// readings is a message of a meter that nobody asked for.
func readings(id, value string) message {
	return message{Topic: uplinkTopic(id, mqtt.Readings), QoS: 1, Payload: fmt.Sprintf(`{"v":1,"message_id":"m-1","readings":[`+
		`{"device_id":%q,"item":%q,"value":%q,"unit":"kWh","read_at":"2026-01-31T12:00:00Z"}]}`, id, item, value)}
}

// stored waits until the API has a reading.
func (b *bench) stored(ctx context.Context, id, value string) error {
	return poll(ctx, "the reading is stored", func() (bool, error) {
		var list struct {
			Items []struct{ Value string }
		}
		if err := b.call(ctx, "GET", "/v1/readings?device_id="+url.QueryEscape(id), "", &list); err != nil || len(list.Items) == 0 {
			return false, err
		}
		if got := list.Items[0].Value; got != value || len(list.Items) > 1 {
			return false, fmt.Errorf("%d readings are stored, one is %s; want one, %s", len(list.Items), got, value)
		}
		return true, nil
	})
}

// uplinkSeen: a service client is given what the devices of its tenant send.
func uplinkSeen(ctx context.Context, b *bench) error {
	meter, err := b.meter(ctx)
	if err != nil {
		return err
	}
	reader, err := b.connect(ctx, login{id: b.id("reader"), filters: []filter{{"meterline/v1/" + meter.id + "/up/#", 1}}})
	if err != nil {
		return err
	}
	c, err := b.connect(ctx, meter)
	if err != nil {
		return err
	}
	m := readings(meter.id, "7")
	return first(
		func() error { return c.publish(ctx, m) },
		func() error { return expect(ctx, reader, m) },
	)
}

// commandAnswered: a command is received, acknowledged and answered. QoS 2 is asked for and 1 granted.
func commandAnswered(ctx context.Context, b *bench) error {
	as, err := b.meter(ctx)
	if err != nil {
		return err
	}
	as.filters = []filter{{mqtt.CommandTopic(fleet.DeviceID(as.id)), 2}}
	c, err := b.attempt(ctx, as)
	if err != nil {
		return err
	}
	if got := c.granted(); len(got) != 1 || got[0] != 1 {
		return fmt.Errorf("granted %v, want QoS 1", got)
	}
	id, err := b.issue(ctx, as.id)
	if err != nil {
		return err
	}
	return b.answer(ctx, c, as.id, id)
}

// issue asks for a reading of a meter.
func (b *bench) issue(ctx context.Context, meter string) (command.ID, error) {
	var v command.View
	err := b.call(ctx, "POST", "/v1/commands", fmt.Sprintf(
		`{"kind":"meter.read","mode":"realtime","timeout_s":60,"targets":{"device_ids":[%q]},"items":[%q]}`, meter, item), &v)
	return v.ID, err
}

// answer waits for the command as its meter, answers and looks that it has succeeded.
func (b *bench) answer(ctx context.Context, c client, meter string, id command.ID) error {
	got, err := c.next(ctx)
	if err != nil {
		return err
	}
	var m command.Message
	if err := json.Unmarshal([]byte(got.Payload), &m); err != nil || m.CommandID != id || got.QoS != 1 || got.Retain {
		return errors.Join(fmt.Errorf("got %v, want command %s", got, id), err)
	}
	result := fmt.Sprintf(`{"v":1,"message_id":"r-1","results":[{"command_id":%q,"device_id":%q,"attempt":1,"status":"ok","final":true,`+
		`"readings":[{"item":%q,"value":"1234.56","unit":"kWh","read_at":%q}]}]}`, id, meter, item, time.Now().UTC().Format(time.RFC3339))
	err = first(
		func() error {
			return c.publish(ctx, message{Topic: uplinkTopic(meter, mqtt.Ack), QoS: 1, Payload: fmt.Sprintf(
				`{"v":1,"command_id":%q,"device_ids":[%q],"status":"accepted"}`, id, meter)})
		},
		func() error {
			return c.publish(ctx, message{Topic: uplinkTopic(meter, mqtt.Result), QoS: 1, Payload: result})
		},
	)
	if err != nil {
		return err
	}
	var v command.View
	if err := b.call(ctx, "GET", "/v1/commands/"+string(id)+"?wait=20", "", &v); err != nil {
		return err
	}
	if v.Status != command.StatusSucceeded {
		return fmt.Errorf("the command is %s: %+v", v.Status, v.Operations)
	}
	return nil
}

// commandWhileAway: a device whose subscription was kept gets what was asked while it was away, without subscribing again.
func commandWhileAway(ctx context.Context, b *bench) error {
	as, err := b.meter(ctx)
	if err != nil {
		return err
	}
	as.keep, as.filters = true, []filter{{mqtt.CommandTopic(fleet.DeviceID(as.id)), 1}}
	c, err := b.returning(ctx, as, false)
	if err != nil {
		return err
	}
	if err := c.disconnect(ctx); err != nil {
		return err
	}
	id, err := b.issue(ctx, as.id)
	if err != nil {
		return err
	}
	if c, err = b.returning(ctx, as, true); err != nil {
		return err
	}
	return b.answer(ctx, c, as.id, id)
}

// foreignTopic: publishing in the name of another device fails in the sender's eyes.
func foreignTopic(ctx context.Context, b *bench) error {
	as, err := b.meter(ctx)
	if err != nil {
		return err
	}
	c, err := b.connect(ctx, as)
	if err != nil {
		return err
	}
	if err := c.publish(ctx, readings("somebody-else", "1")); err == nil {
		return errors.New("it was acknowledged")
	} else if ctx.Err() != nil {
		return fmt.Errorf("it was told nothing: %w", err)
	}
	return nil
}
