//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"meterline/testkit/packet"
)

// attackMode is the argument that makes this program an attacker: address, addresses to come from, most sockets, sockets a
// second, seconds.
const attackMode = "attacker"

// harvest is what an attacker has got.
type harvest struct {
	Opened  int `json:"opened"`
	Refused int `json:"refused"` // could not be opened
	Closed  int `json:"closed"`  // by the broker
	Most    int `json:"most_open"`
}

// attacker opens sockets and never gives one up. Every other one says a CONNECT, a byte a second; the rest say nothing.
// It is one thread over epoll, for it shall cost the machine little beside what it does to the broker.
type attacker struct {
	to      syscall.SockaddrInet4
	from    [][4]byte
	most    int
	epoll   int
	open    map[int]int // per socket, how many bytes of CONNECT were sent; -1: idle
	tried   int
	harvest harvest
}

// ipBindAddressNoPort lets the kernel choose the port when it knows both ends (ip(7)); syscall does not name it.
const ipBindAddressNoPort = 24

func serveAttack(args []string, stdout, stderr io.Writer) int {
	a, perSecond, lasts, err := newAttacker(args)
	if err == nil {
		a.run(perSecond, lasts)
		err = json.NewEncoder(stdout).Encode(a.harvest)
	}
	if err != nil {
		fmt.Fprintln(stderr, "attacker:", err)
		return 1
	}
	return 0
}

func newAttacker(args []string) (a *attacker, perSecond int, lasts time.Duration, err error) {
	if len(args) != 5 {
		return nil, 0, 0, fmt.Errorf("five arguments, not %d", len(args))
	}
	to, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return nil, 0, 0, err
	}
	a = &attacker{to: syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}, open: map[int]int{}}
	for source := range strings.SplitSeq(args[1], ",") {
		ip, err := netip.ParseAddr(source)
		if err != nil {
			return nil, 0, 0, err
		}
		a.from = append(a.from, ip.As4())
	}
	if a.most, err = strconv.Atoi(args[2]); err != nil {
		return nil, 0, 0, err
	}
	if perSecond, err = strconv.Atoi(args[3]); err != nil {
		return nil, 0, 0, err
	}
	if lasts, err = time.ParseDuration(args[4]); err != nil {
		return nil, 0, 0, err
	}
	a.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	return a, perSecond, lasts, err
}

// run attacks for a while. The sockets go with the process.
func (a *attacker) run(perSecond int, lasts time.Duration) {
	const turn = 10 * time.Millisecond
	const turns = int(time.Second / turn)
	began := time.Now()
	for n := 0; time.Since(began) < lasts; n++ {
		due := int(time.Since(began).Seconds() * float64(perSecond))
		a.tried = max(a.tried, due-perSecond/4) // what could not be opened in time is not made up for at once
		for ; a.tried < due && len(a.open) < a.most; a.tried++ {
			a.connect()
		}
		a.harvest.Most = max(a.harvest.Most, len(a.open))
		a.drip(n%turns, turns)
		a.collect(turn)
	}
}

func (a *attacker) connect() {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		a.harvest.Refused++
		return
	}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, ipBindAddressNoPort, 1)
	err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: a.from[a.tried%len(a.from)]})
	if err == nil {
		err = syscall.Connect(fd, &a.to)
	}
	if err == nil || err == syscall.EINPROGRESS {
		err = syscall.EpollCtl(a.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP, Fd: int32(fd)})
	}
	if err != nil {
		a.harvest.Refused++
		_ = syscall.Close(fd)
		return
	}
	a.harvest.Opened++
	a.open[fd] = -(a.tried / len(a.from) % 2) // every address has both kinds
}

// slowConnect is what slow ones say.
var slowConnect = packet.AppendConnect(nil, packet.Account{
	Client: "a-client-that-takes-its-time-to-say-who-it-is-and-never-gets-to-the-end-of-it", User: "nobody", Password: "nothing"}, keepAlive)

// drip sends the next byte of every slow CONNECT whose turn it is.
func (a *attacker) drip(turn, turns int) {
	for fd, sent := range a.open {
		if sent >= 0 && sent < len(slowConnect)-1 && fd%turns == turn {
			if _, err := syscall.Write(fd, slowConnect[sent:sent+1]); err == nil {
				a.open[fd] = sent + 1
			}
		}
	}
}

// collect takes away what the broker has closed, and waits for a turn at most.
func (a *attacker) collect(turn time.Duration) {
	var events [1024]syscall.EpollEvent
	until := time.Now().Add(turn)
	for {
		n, err := syscall.EpollWait(a.epoll, events[:], max(0, int(time.Until(until).Milliseconds())))
		if err != nil && err != syscall.EINTR {
			return
		}
		for _, e := range events[:max(n, 0)] {
			if e.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
				delete(a.open, int(e.Fd))
				_ = syscall.Close(int(e.Fd))
				a.harvest.Closed++
				continue
			}
			var scrap [512]byte
			_, _ = syscall.Read(int(e.Fd), scrap[:])
		}
		if !time.Now().Before(until) {
			return
		}
	}
}
