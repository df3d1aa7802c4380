package testkit

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	sharedCluster = sync.OnceValues(func() ([]*RedisServer, error) { return startCluster(0) })
	clusterTurn   sync.Mutex
)

// RedisCluster returns the addresses (host:port) of a Cluster of three masters that the test has to itself, empty, until
// it ends: others wait meanwhile.
func RedisCluster(t testing.TB) (addrs []string) {
	t.Helper()
	needCLI(t)
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

func needCLI(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("redis-cli"); err != nil {
		need(t, &missing{server: "redis-cli", install: "redis-tools"})
	}
}

// startCluster starts three masters with so many replicas each, and returns when each node knows all others and every replica
// is in step.
func startCluster(replicas int, settings ...string) (nodes []*RedisServer, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll(nodes))
			nodes = nil
		}
	}()
	create := []string{"--cluster", "create", "--cluster-yes", "--cluster-replicas", strconv.Itoa(replicas)}
	for range clusterMasters * (1 + replicas) {
		bus, err := freePort()
		if err != nil {
			return nodes, err
		}
		n, err := startRedis(slices.Concat(asDurable, []string{"--databases", "1", "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus)}, settings)...)
		if err != nil {
			return nodes, err
		}
		nodes, create = append(nodes, n), append(create, n.Addr)
	}
	out, err := exec.Command("redis-cli", create...).CombinedOutput()
	if err != nil {
		return nodes, fmt.Errorf("make a Cluster: %w: %s", err, out)
	}
	ctx, stop := context.WithTimeout(context.Background(), startWithin)
	defer stop()
	for _, n := range nodes {
		if err := poll(ctx, func() error { return whole(ctx, n.Addr, len(nodes), replicas) }); err != nil {
			return nodes, err
		}
	}
	return nodes, nil
}

// whole says what a node lacks: slots, the others, or replicas that are in step.
func whole(ctx context.Context, addr string, nodes, replicas int) error {
	return withRedis(addr, func(c *redis.Client) error {
		info, err := c.ClusterInfo(ctx).Result()
		if err == nil && (!strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r", nodes))) {
			err = fmt.Errorf("the Cluster is not complete: %s", info)
		}
		if err != nil || replicas == 0 {
			return err
		}
		info, err = c.Info(ctx, "replication").Result()
		inStep := strings.Count(info, "state=online") == replicas || strings.Contains(info, "master_link_status:up")
		if err == nil && !inStep {
			err = fmt.Errorf("replicas are not in step: %s", info)
		}
		return err
	})
}

func closeAll(nodes []*RedisServer) (err error) {
	for _, n := range nodes {
		err = errors.Join(err, n.Close())
	}
	return err
}

// RedisShards is a Cluster of three masters with replicas. All of it is the test's own.
type RedisShards struct {
	Servers []*RedisHandle
	Addrs   []string // of the servers
	t       testing.TB
}

// RedisReplicatedCluster starts one, as durable as the uplink log needs it, with settings more for its servers. A master that
// does not answer is given up after two seconds.
func RedisReplicatedCluster(t testing.TB, replicas int, settings ...string) *RedisShards {
	t.Helper()
	needCLI(t)
	nodes, err := startCluster(replicas, slices.Concat([]string{"--cluster-node-timeout", "2000", "--cluster-replica-validity-factor", "0",
		"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}, settings)...)
	need(t, err)
	s := &RedisShards{t: t}
	for _, n := range nodes {
		closeAfter(t, n.proc)
		s.Servers, s.Addrs = append(s.Servers, &RedisHandle{Server: Server{t: t, proc: n.proc}, Addr: n.Addr}), append(s.Addrs, n.Addr)
	}
	return s
}

// Master is the server that all others that run take for the master of a key. It waits until they agree.
func (s *RedisShards) Master(key string) *RedisHandle {
	s.t.Helper()
	return masterBut(s.t, nil, func() *RedisHandle { return s.agreed(key) }, "one master of "+key)
}

// agreed is Master, or nil while they do not agree.
func (s *RedisShards) agreed(key string) *RedisHandle {
	at := ""
	for _, n := range s.Servers {
		if n.proc.pid() == 0 {
			continue
		}
		here, err := s.masterBy(n.Addr, key)
		if err != nil || at != "" && at != here {
			return nil
		}
		at = here
	}
	if i := slices.IndexFunc(s.Servers, func(n *RedisHandle) bool { return n.Addr == at }); i >= 0 {
		return s.Servers[i]
	}
	return nil
}

// masterBy asks one server for the master of a key.
func (s *RedisShards) masterBy(addr, key string) (master string, err error) {
	err = withRedis(addr, func(c *redis.Client) error {
		slot, err := c.ClusterKeySlot(s.t.Context(), key).Result()
		if err != nil {
			return err
		}
		shards, err := c.ClusterShards(s.t.Context()).Result()
		for _, shard := range shards {
			if slices.ContainsFunc(shard.Slots, func(r redis.SlotRange) bool { return r.Start <= slot && slot <= r.End }) {
				master = masterOf(shard)
			}
		}
		return err
	})
	return master, err
}

func masterOf(shard redis.ClusterShard) string {
	for _, n := range shard.Nodes {
		if n.Role == "master" {
			return net.JoinHostPort(n.IP, strconv.FormatInt(n.Port, 10))
		}
	}
	return ""
}

// Failover waits until all servers that run have agreed on another master of a key than the one that was lost.
func (s *RedisShards) Failover(key string, lost *RedisHandle) *RedisHandle {
	s.t.Helper()
	return masterBut(s.t, lost, func() *RedisHandle { return s.agreed(key) }, "another master of "+key)
}
