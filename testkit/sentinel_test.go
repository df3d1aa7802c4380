package testkit

import (
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestSentinelsFindAnotherMaster(t *testing.T) {
	t.Parallel()
	g := RedisSentinel(t, 1)
	lost := g.Master()
	if lost != g.Servers[0] {
		t.Fatalf("the master is %v", lost)
	}
	lost.Kill()
	if master := g.Failover(lost); master != g.Servers[1] {
		t.Fatalf("the master is %v", master)
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	addrs := RedisCluster(t)
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs[:1]})
	defer c.Close()
	for _, key := range []string{"a", "b", "c", "d"} {
		if err := c.Set(t.Context(), key, key, 0).Err(); err != nil {
			t.Error(err)
		}
	}
}

func TestAClusterFindsAnotherMaster(t *testing.T) {
	t.Parallel()
	s := RedisReplicatedCluster(t, 1)
	lost := s.Master("a")
	lost.Kill()
	if master := s.Failover("a", lost); slices.Index(s.Servers, master) < clusterMasters {
		t.Fatalf("the master is %v", master)
	}
}
