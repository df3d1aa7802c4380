// Package testkit starts the real servers that tests run against, PostgreSQL and Redis, and takes them down again.
//
// [Postgres] and [Redis] share one server among the tests of a process, or among all packages when `make test` has
// started the pair (testkit/cmd/servers) and named it in the environment. [PostgresPrivate] and [RedisPrivate] give a
// test a server of its own to stop, kill and pause; [RedisSentinel] and [RedisCluster] give it several that belong together.
// Every server listens on 127.0.0.1 on a port that no other test process gets, keeps its files in a temporary directory, writes
// as durably as production does, and dies with the process that started it. [FreeAddress] and [NewApp] are for programs of ours.
//
// Where a server is not installed the test is skipped with the line that installs it; with
// METERLINE_TEST_REQUIRE_SERVERS=1 it fails instead, so that nothing is skipped unseen.
//
// Only tests may import this package.
package testkit
