package testkit

import (
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestSentinelsFindAnotherMaster(t *testing.T) {
	t.Parallel()
	g := RedisSentinel(t, 1)
	lost := g.Master() // the first, unless the machine kept that waiting for a second
	lost.Kill()
	other := g.Servers[1-slices.Index(g.Servers, lost)]
	if master := g.Failover(lost); master != other {
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
