package testkit

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// clusterMasters is how many masters a Cluster needs at least.
const clusterMasters = 3

// The Cluster of this process, which one test at a time has.
var (
	sharedCluster = sync.OnceValues(startCluster)
	clusterTurn   sync.Mutex
)

// RedisCluster returns the addresses (host:port) of a Cluster of three masters that the test has to itself, empty, until
// it ends: others wait meanwhile.
func RedisCluster(t testing.TB) (addrs []string) {
	t.Helper()
	if _, err := exec.LookPath("redis-cli"); err != nil {
		need(t, &missing{server: "redis-cli", install: "redis-tools"})
	}
	clusterTurn.Lock()
	t.Cleanup(clusterTurn.Unlock)
	nodes, err := sharedCluster()
	need(t, err)
	for _, n := range nodes {
		addrs = append(addrs, n.Addr)
		need(t, withRedis(n.Addr, func(c *redis.Client) error { return c.FlushAll(t.Context()).Err() }))
	}
	return addrs
}

func startCluster() (nodes []*RedisServer, err error) {
	var addrs []string
	for range clusterMasters {
		bus, err := freePort()
		if err != nil {
			return nil, errors.Join(err, closeAll(nodes))
		}
		n, err := startRedis(slices.Concat(asDurable, []string{"--databases", "1", "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus)})...)
		if err != nil {
			return nil, errors.Join(err, closeAll(nodes))
		}
		nodes, addrs = append(nodes, n), append(addrs, n.Addr)
	}
	out, err := exec.Command("redis-cli", append([]string{"--cluster", "create", "--cluster-yes"}, addrs...)...).CombinedOutput()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a Cluster: %w: %s", err, out), closeAll(nodes))
	}
	ctx, stop := context.WithTimeout(context.Background(), startWithin)
	defer stop()
	for _, addr := range addrs {
		err := poll(ctx, func() error {
			return withRedis(addr, func(c *redis.Client) error {
				info, err := c.ClusterInfo(ctx).Result()
				if err == nil && !strings.Contains(info, "cluster_state:ok") {
					err = fmt.Errorf("the Cluster is not complete: %s", info)
				}
				return err
			})
		})
		if err != nil {
			return nil, errors.Join(err, closeAll(nodes))
		}
	}
	return nodes, nil
}

func closeAll(nodes []*RedisServer) (err error) {
	for _, n := range nodes {
		err = errors.Join(err, n.Close())
	}
	return err
}
