// Command tenantry-render renders one chart again and again.
//
// It loads the chart given as its only argument, says which one that is in a first line on standard output, and then
// answers each request line on standard input with one line: JSON both ways. The answers carry the request's id and
// may come in another order. It ends when its standard input does. It never talks to a cluster: no lookup, no hooks,
// no notes.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
)

// Version of this program's output; part of every digest, so raise it when the same chart and values render differently.
const Version = "tenantry-render/2"

// With a live heap of a few MiB, Go would collect garbage every second render. 300 trades 15 MiB for a fifth of the time.
const gcPercent = 300

// The longest request line that is read. A tenant's values are a few KiB.
const maxLine = 8 << 20

type hello struct {
	Renderer string `json:"renderer"`
	Chart    string `json:"chart"`
	Digest   string `json:"digest"`
}

type request struct {
	ID        uint64          `json:"id"`
	Release   string          `json:"release"`
	Namespace string          `json:"namespace"`
	Values    json.RawMessage `json:"values"`
}

type response struct {
	ID      uint64            `json:"id"`
	Objects []json.RawMessage `json:"objects,omitempty"`
	Error   string            `json:"error,omitempty"`
}

func main() {
	debug.SetGCPercent(gcPercent)
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tenantry-render:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: tenantry-render CHART-DIRECTORY")
	}
	renderer, err := NewRenderer(args[0])
	if err != nil {
		return err
	}
	answers := &lines{out: bufio.NewWriter(out)}
	if err := answers.write(hello{renderer.version, renderer.chartName, renderer.digest}); err != nil {
		return err
	}
	return serve(renderer, in, answers)
}

// serve answers every request of in, as many at a time as there are processors.
func serve(renderer *Renderer, in io.Reader, answers *lines) error {
	var wait sync.WaitGroup
	work := make(chan request)
	failed := make(chan error, runtime.GOMAXPROCS(0))
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for req := range work {
				if err := answers.write(answer(renderer, req)); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	scanner := bufio.NewScanner(in)
	scanner.Buffer(make([]byte, 0, 64<<10), maxLine)
	err := feed(scanner, work, failed)
	close(work)
	wait.Wait()
	return err
}

func feed(scanner *bufio.Scanner, work chan<- request, failed <-chan error) error {
	for scanner.Scan() {
		var req request
		if err := json.Unmarshal(scanner.Bytes(), &req); err != nil {
			return fmt.Errorf("a request line is not JSON: %w", err)
		}
		select {
		case work <- req:
		case err := <-failed:
			return err
		}
	}
	return scanner.Err()
}

func answer(renderer *Renderer, req request) response {
	objects, err := renderer.Render(req.Release, req.Namespace, req.Values)
	if err != nil {
		return response{ID: req.ID, Error: err.Error()}
	}
	return response{ID: req.ID, Objects: objects}
}

// lines writes one JSON document per line, each flushed at once.
type lines struct {
	mutex sync.Mutex
	out   *bufio.Writer
}

func (l *lines) write(document any) error {
	encoded, err := json.Marshal(document)
	if err != nil {
		return err
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.out.Write(encoded)
	l.out.WriteByte('\n')
	return l.out.Flush()
}
