package checker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// metrics is the rest of rule 11: what the living processes count must not contradict the record. A process that was killed
// took its counts with it, and a commit whose answer was lost counts nothing: with faults they may be too low.
func (r *Report) metrics(ctx context.Context, urls []string, stored int, faults bool) error {
	sums := map[string]float64{}
	for _, url := range urls {
		if err := scrape(ctx, url, sums); err != nil {
			return err
		}
	}
	if len(urls) > 0 {
		r.counted(sums, stored, faults)
	}
	return nil
}

func (r *Report) counted(sums map[string]float64, stored int, faults bool) {
	if n := sums["meterline_worker_partitions"]; n != 16 {
		r.violate(11, "metrics", "meterline_worker_partitions", fmt.Sprintf("%v of 16 partitions have an owner", n))
	}
	if lag := sums["meterline_uplink_lag_seconds"]; lag > 5 {
		r.violate(11, "metrics", "meterline_uplink_lag_seconds", fmt.Sprintf("%v s at rest", lag))
	}
	counted := int(sums["meterline_readings_stored_total"])
	if counted > stored || !faults && counted != stored {
		r.violate(11, "metrics", "meterline_readings_stored_total", fmt.Sprintf("%d, and %d are stored", counted, stored))
	}
}

// scrape adds the values of all series to those of their name.
func scrape(ctx context.Context, url string, sums map[string]float64) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("read metrics: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("read metrics: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("read metrics: %s answered %d", url, response.StatusCode)
	}
	return add(response.Body, sums)
}

func add(text io.Reader, sums map[string]float64) error {
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		line := lines.Text()
		name := line
		if i := strings.IndexAny(line, "{ "); i >= 0 {
			name = line[:i]
		}
		i := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || i < 0 {
			continue
		}
		if v, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
			sums[name] += v
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read metrics: %w", err)
	}
	return nil
}
