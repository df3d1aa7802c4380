package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"meterline/command"
	"meterline/testkit"
)

// certify writes a certificate for 127.0.0.1, signed by itself, and its key.
func certify(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", signed), write("key.pem", "PRIVATE KEY", encoded)
}

// Sentinel, its master and everybody who asks them speak TLS, with passwords for both.
func TestRedisSentinelByTLS(t *testing.T) {
	cert, key := certify(t)
	files := []string{"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no"}
	master, sentinel, plain := freePort(t), freePort(t), freePort(t)
	testkit.RedisConfigured(t, append(files, "--tls-port", master, "--appendonly", "yes", "--appendfsync", "always",
		"--user", "app", "on", ">secret", "~*", "&*", "+@all")...)

	conf := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("port %s\ntls-port %s\nbind 127.0.0.1\ntls-replication yes\nrequirepass guarded\nsentinel monitor m 127.0.0.1 %s 1\n", plain, sentinel, master)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(testkit.Program(t, "redis-server", "redis-server"), append([]string{conf, "--sentinel"}, files...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(c) })
	testkit.Eventually(t, waitMost, func() error {
		conn, err := net.Dial("tcp", "127.0.0.1:"+sentinel)
		if err != nil {
			return err
		}
		return conn.Close()
	}, "the sentinel to listen")

	e := newEstateOn(t, "redis", testkit.Postgres(t), testWriter{t}, "SSL_CERT_FILE="+cert,
		"METERLINE_REDIS_URL=rediss+sentinel://app:secret@127.0.0.1:"+sentinel+"/m/0?sentinel_password=guarded")
	s := e.simulate(1, 4)
	v := e.readAll("realtime")
	e.until(v.ID, func(v command.View) bool { return v.Status == command.StatusSucceeded })
	e.verify(s, v.ID)
}
