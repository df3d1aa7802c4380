package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"meterline/command"
)

// follow polls a command about once a second, as a user would, until it has ended.
func (d *demo) follow(ctx context.Context, id command.ID) (command.View, error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var v command.View
		if err := d.call(ctx, http.MethodGet, "/v1/commands/"+string(id)+"?wait=1", &v); err != nil {
			return v, err
		}
		if v.Status != command.StatusRunning {
			return v, nil
		}
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case <-tick.C:
		}
	}
}

// retry asks those again that did not succeed.
func (d *demo) retry(ctx context.Context, id command.ID) (command.ID, error) {
	var v command.View
	err := d.call(ctx, http.MethodPost, "/v1/commands/"+string(id)+"/retry", &v)
	return v.ID, err
}

func (d *demo) call(ctx context.Context, method, path string, out any) error {
	request, err := http.NewRequestWithContext(ctx, method, d.http+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+d.token)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		body, _ := io.ReadAll(io.LimitReader(answer.Body, 1000))
		return fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, body)
	}
	return json.NewDecoder(answer.Body).Decode(out)
}

func host(addr string) string { h, _, _ := net.SplitHostPort(addr); return h }
func port(addr string) string { _, p, _ := net.SplitHostPort(addr); return p }
