// A lean load generator for etcd over gRPC: raw KV calls, without the client library's interceptors. It prints an empty
// JSON object once it is warm, waits for a line, measures, and prints what it saw. Each client has a connection of its
// own, goes to the leader first, and asks the next member after an error or a time-out, which keeps the gap at a
// failover short.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/etcdserver/etcdserverpb"
	"google.golang.org/grpc"
)

type result struct {
	Completed      int        `json:"completed"`
	Seconds        float64    `json:"seconds"`
	P50            float64    `json:"p50_us"`
	P99            float64    `json:"p99_us"`
	P999           float64    `json:"p999_us"`
	GeneratorCores float64    `json:"generator_cores"`
	Gaps           [][2]int64 `json:"gaps,omitempty"`
}

type client struct {
	members   []string
	at        int
	connected map[string]pb.KVClient
	timeout   time.Duration
	latencies []int64
}

func (c *client) kv() pb.KVClient {
	member := c.members[c.at%len(c.members)]
	found, ok := c.connected[member]
	if !ok {
		connection, err := grpc.Dial(member, grpc.WithInsecure(), grpc.WithBackoffMaxDelay(50*time.Millisecond))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		found = pb.NewKVClient(connection)
		c.connected[member] = found
	}
	return found
}

func (c *client) once(operation string, key, value []byte) bool {
	attempt, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	var err error
	if operation == "get" {
		_, err = c.kv().Range(attempt, &pb.RangeRequest{Key: key})
	} else {
		_, err = c.kv().Put(attempt, &pb.PutRequest{Key: key, Value: value})
	}
	if err != nil {
		c.at++
	}
	return err == nil
}

func processorTime() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return float64(usage.Utime.Sec+usage.Stime.Sec) + float64(usage.Utime.Usec+usage.Stime.Usec)/1e6
}

// gapWatch keeps every interval of 20 ms or more in which no client completed anything, in Unix nanoseconds.
type gapWatch struct {
	sync.Mutex
	last int64
	gaps [][2]int64
}

func (g *gapWatch) completed(now int64) {
	g.Lock()
	if g.last != 0 && now-g.last >= int64(20*time.Millisecond) {
		g.gaps = append(g.gaps, [2]int64{g.last, now})
	}
	g.last = now
	g.Unlock()
}

func main() {
	endpoints := flag.String("endpoints", "", "host:port of the leader, then of the others")
	operation := flag.String("operation", "put", "put or get")
	clients := flag.Int("clients", 1, "independent clients, each with its own connection")
	warm := flag.Duration("warm", 300*time.Millisecond, "before the measurement")
	measured := flag.Duration("time", time.Second, "how long to measure; 0: until another line comes")
	timeout := flag.Duration("timeout", 5*time.Second, "after which the next member is asked")
	valueBytes := flag.Int("value-bytes", 16, "size of each value")
	flag.Parse()

	value := []byte(strings.Repeat("v", *valueBytes))
	all := make([]*client, *clients)
	for number := range all {
		all[number] = &client{
			members:   strings.Split(*endpoints, ","),
			connected: map[string]pb.KVClient{},
			timeout:   *timeout,
		}
	}
	var measuring, stopped int32
	var watch gapWatch
	var group sync.WaitGroup
	for number, each := range all {
		group.Add(1)
		go func(number int, c *client) {
			defer group.Done()
			key := []byte(fmt.Sprintf("key-%04d", number))
			for atomic.LoadInt32(&stopped) == 0 {
				counts := atomic.LoadInt32(&measuring) == 1
				began := time.Now()
				if c.once(*operation, key, value) && counts {
					c.latencies = append(c.latencies, int64(time.Since(began)))
					if *measured == 0 {
						watch.completed(time.Now().UnixNano())
					}
				}
			}
		}(number, each)
	}
	time.Sleep(*warm)
	fmt.Println("{}")
	input := bufio.NewReader(os.Stdin)
	_, _ = input.ReadString('\n')
	began, processorBefore := time.Now(), processorTime()
	atomic.StoreInt32(&measuring, 1)
	if *measured > 0 {
		time.Sleep(*measured)
	} else {
		_, _ = input.ReadString('\n')
	}
	atomic.StoreInt32(&stopped, 1)
	took, cost := time.Since(began).Seconds(), processorTime()-processorBefore
	group.Wait()

	var latencies []int64
	for _, each := range all {
		latencies = append(latencies, each.latencies...)
	}
	sort.Slice(latencies, func(a, b int) bool { return latencies[a] < latencies[b] })
	at := func(quantile float64) float64 {
		if len(latencies) == 0 {
			return 0
		}
		index := int(float64(len(latencies)) * quantile)
		if index >= len(latencies) {
			index = len(latencies) - 1
		}
		return float64(latencies[index]) / 1e3
	}
	printed, err := json.Marshal(result{
		len(latencies), took, at(0.5), at(0.99), at(0.999), cost / took, watch.gaps,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(string(printed))
}
