package launch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// How a Redis is written that is not one server:
//
//	redis+sentinel://USER:PASSWORD@HOST:26379,HOST:26379/MASTER/NUMBER?sentinel_username=…&sentinel_password=…
//	redis+cluster://USER:PASSWORD@HOST:6379,HOST:6379
//	redis://HOST:6379,HOST:6379/0                                             also a Cluster
//
// rediss+sentinel, rediss+cluster and rediss speak TLS, to sentinels as well as to servers.
const (
	portOfRedis    = "6379"
	portOfSentinel = "26379"
)

// redisURL is where a Redis is: a server, the sentinels that know which one is the master, or some nodes of a Cluster.
type redisURL struct {
	single *redis.Options // nil: sentinels, or a Cluster

	hosts                          []string
	user, password                 string
	secure                         bool
	master                         string // "": a Cluster
	number                         int
	sentinelUser, sentinelPassword string
}

// CheckRedisURL says what is wrong with the value of a Redis flag, if anything. What the URL holds is not repeated: it may
// hold a password.
func CheckRedisURL(flag, address string) error {
	if _, err := parseRedisURL(address); err != nil {
		return fmt.Errorf("--%s: %w", flag, err)
	}
	return nil
}

func parseRedisURL(address string) (u redisURL, err error) {
	scheme, rest, ok := strings.Cut(address, "://")
	scheme, kind, _ := strings.Cut(scheme, "+")
	several := strings.Contains(strings.SplitN(rest, "/", 2)[0], ",")
	switch {
	case !ok || scheme != "redis" && scheme != "rediss" && scheme != "unix":
		return u, errors.New("must begin with redis://, redis+sentinel:// or redis+cluster://, or with rediss for TLS")
	case kind == "" && !several:
		if u.single, err = redis.ParseURL(address); err != nil {
			err = errors.New("must be redis://USER:PASSWORD@HOST:PORT/NUMBER, or rediss:// for TLS")
		}
		return u, err
	case scheme == "unix" || kind != "" && kind != "sentinel" && kind != "cluster":
		return u, errors.New("must begin with redis://, redis+sentinel:// or redis+cluster://, or with rediss for TLS")
	}
	u.secure = scheme == "rediss"
	if kind == "sentinel" {
		return u, u.parseSentinels(rest)
	}
	return u, u.parseCluster(rest)
}

func (u *redisURL) parseSentinels(rest string) error {
	const form = "redis+sentinel://USER:PASSWORD@HOST:26379,HOST:26379/MASTER/NUMBER"
	parsed, err := u.parseHosts(rest, portOfSentinel)
	if err != nil {
		return fmt.Errorf("%w: must be %s", err, form)
	}
	for name, values := range parsed.Query() {
		switch name {
		case "sentinel_username":
			u.sentinelUser = values[0]
		case "sentinel_password":
			u.sentinelPassword = values[0]
		default:
			return fmt.Errorf("redis+sentinel knows sentinel_username and sentinel_password, not %q", name)
		}
	}
	master, number, _ := strings.Cut(strings.Trim(parsed.Path, "/"), "/")
	if u.master = master; master == "" {
		return errors.New("the name of the master is missing: must be " + form)
	}
	if number == "" {
		return nil
	}
	if u.number, err = strconv.Atoi(number); err != nil || u.number < 0 {
		return errors.New("the database must be a number: must be " + form)
	}
	return nil
}

func (u *redisURL) parseCluster(rest string) error {
	parsed, err := u.parseHosts(rest, portOfRedis)
	switch {
	case err != nil:
		return fmt.Errorf("%w: must be redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT", err)
	case parsed.RawQuery != "":
		return errors.New("a Cluster takes no parameters")
	}
	if number := strings.Trim(parsed.Path, "/"); number != "" && number != "0" {
		return errors.New("a Cluster has no database but 0; several addresses are those of a Cluster")
	}
	return nil
}

// parseHosts reads what comes after the scheme: who, and at which hosts.
func (u *redisURL) parseHosts(rest, port string) (*url.URL, error) {
	authority, path := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	who, hosts := "", authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		who, hosts = authority[:i+1], authority[i+1:]
	}
	parsed, err := url.Parse("redis://" + who + "hosts" + path) // a URL of the standard has one host
	if err != nil || parsed.Fragment != "" {
		return nil, errors.New("not a URL; in user names and passwords %, /, ?, # and @ are written %25, %2F, %3F, %23 and %40")
	}
	u.user = parsed.User.Username()
	u.password, _ = parsed.User.Password()
	for host := range strings.SplitSeq(hosts, ",") {
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), port)
		}
		name, number, err := net.SplitHostPort(host)
		if n, bad := strconv.ParseUint(number, 10, 16); err != nil || name == "" || bad != nil || n == 0 {
			return nil, errors.New("a host is wrong")
		}
		u.hosts = append(u.hosts, host)
	}
	return parsed, nil
}

// open makes the client. Nothing is sent yet.
func (u redisURL) open() redis.UniversalClient {
	const dial, answer = 2 * time.Second, 3 * time.Second
	if o := u.single; o != nil {
		o.MaxRetries = -1 // whoever calls knows better whether and when
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = dial, answer, answer
		o.ContextTimeoutEnabled = true
		return redis.NewClient(o)
	}
	var secure *tls.Config
	if u.secure {
		secure = &tls.Config{MinVersion: tls.VersionTLS12} // the name in the certificate is the host that is dialled
	}
	if u.master == "" {
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: u.hosts, Username: u.user, Password: u.password, TLSConfig: secure,
			DialTimeout: dial, ReadTimeout: answer, WriteTimeout: answer, ContextTimeoutEnabled: true,
		})
	}
	return redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: u.master, SentinelAddrs: u.hosts, Username: u.user, Password: u.password, DB: u.number,
		SentinelUsername: u.sentinelUser, SentinelPassword: u.sentinelPassword, TLSConfig: secure, MaxRetries: -1,
		DialTimeout: dial, ReadTimeout: answer, WriteTimeout: answer, ContextTimeoutEnabled: true,
	})
}

// where names it for people.
func (u redisURL) where() string {
	switch {
	case u.single != nil:
		return "at " + u.single.Addr
	case u.master != "":
		return "master " + strconv.Quote(u.master) + " by the sentinels at " + strings.Join(u.hosts, ", ")
	}
	return "Cluster at " + strings.Join(u.hosts, ", ")
}

// Redis connects to a server, to the master that sentinels know, or to a Cluster; see CheckRedisURL.
func Redis(ctx context.Context, address string) (redis.UniversalClient, error) {
	u, err := parseRedisURL(address)
	if err != nil {
		return nil, err
	}
	client := u.open()
	ctx, stop := context.WithTimeout(ctx, reachWithin)
	defer stop()
	if err := client.Ping(ctx).Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot reach Redis %s: %w", u.where(), err), client.Close())
	}
	if err := u.fits(ctx, client); err != nil {
		return nil, errors.Join(fmt.Errorf("the Redis %s %w", u.where(), err), client.Close())
	}
	return client, nil
}

// fits says whether a single server is one: half of the keys of a Cluster would be missed, or the wrong port was taken.
func (u redisURL) fits(ctx context.Context, client redis.UniversalClient) error {
	if u.single == nil {
		return nil
	}
	info, err := client.Info(ctx).Result()
	switch {
	case err != nil:
		return fmt.Errorf("does not say what it is: %w", err)
	case strings.Contains(info, "redis_mode:sentinel"):
		return errors.New("is a Sentinel: use redis+sentinel://HOST:PORT/MASTER")
	case strings.Contains(info, "redis_mode:cluster"):
		return errors.New("is a node of a Cluster: use redis+cluster://HOST:PORT")
	case strings.Contains(info, "role:slave"):
		return errors.New("is a replica: use its master, or redis+sentinel://HOST:PORT/MASTER")
	}
	return nil
}

// RedisLog has the Redis client write to the program's log, at level debug: what matters of it is said by those who call
// the client. To be called before the first client is made; it is for the whole process.
func RedisLog(logger *slog.Logger) { redis.SetLogger(redisLog{logger}) }

type redisLog struct{ *slog.Logger }

// Printf is what the client calls.
func (l redisLog) Printf(ctx context.Context, format string, v ...any) {
	if l.Enabled(ctx, slog.LevelDebug) {
		l.DebugContext(ctx, "redis client", "says", fmt.Sprintf(format, v...))
	}
}
