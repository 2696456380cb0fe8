package main

import (
	"bytes"
	"slices"
	"strings"
	"sync"

	"sigs.k8s.io/yaml"
)

// blocks turns YAML into JSON as sigs.k8s.io/yaml does, and remembers the JSON of each block under its text: reading
// YAML is more than half of a render, and nearly every block of a tenant's objects (specs, selectors, labels) is also
// one of another object or of another tenant.
//
// Only block mappings with plain keys are taken apart; everything else (scalars of any style, sequences, flow
// collections) goes to the library as it stands, with its key. An entry ends before the next line that is indented as
// its key is (a sequence's "- " may be, too). That is its end unless a quoted scalar or a flow collection is open there;
// then the library refuses the piece, as it does an alias without its anchor, and gets the whole document instead. It also
// does when a key is no plain string or is there twice.
// tests/unit/operator/render/test_blocks.py holds this against a YAML library.
type blocks struct {
	mutex sync.Mutex
	known map[string][]byte
}

// Texts that are kept: some 200 for a tier, six for a tenant, a KiB each. All are dropped when there are more.
const maxBlocks = 4096

// Line breaks that split does not know, and what begins a directive.
const inseparable = "\r\u0085\u2028\u2029%"

// toJSON is yaml.YAMLToJSON.
func (b *blocks) toJSON(document string) ([]byte, error) {
	if !strings.ContainsAny(document, inseparable) {
		if encoded, ok := b.mapping(document); ok {
			return encoded, nil
		}
	}
	return yaml.YAMLToJSON([]byte(document))
}

// entry is a key with all lines that belong to it.
type entry struct {
	key   string
	text  string // from the line of the key on
	below string // the lines after that of the key, when nothing stands beside the key
}

// mapping gives the JSON of a block mapping; false when it is none, or none that can be taken apart.
func (b *blocks) mapping(text string) ([]byte, bool) {
	entries, ok := split(text)
	if !ok {
		return nil, false
	}
	slices.SortFunc(entries, func(left, right entry) int { return strings.Compare(left.key, right.key) })
	var out bytes.Buffer
	out.WriteByte('{')
	for index, each := range entries {
		if index > 0 {
			if entries[index-1].key == each.key {
				return nil, false
			}
			out.WriteByte(',')
		}
		out.WriteByte('"')
		out.WriteString(each.key)
		out.WriteString(`":`)
		value, ok := b.value(each)
		if !ok {
			return nil, false
		}
		out.Write(value)
	}
	out.WriteByte('}')
	return out.Bytes(), true
}

// value gives the JSON of an entry's value; false when the library refuses it.
func (b *blocks) value(each entry) ([]byte, bool) {
	b.mutex.Lock()
	known, found := b.known[each.text]
	b.mutex.Unlock()
	if found {
		return known, true
	}
	encoded, ok := b.read(each)
	if !ok {
		return nil, false
	}
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.known == nil || len(b.known) >= maxBlocks {
		b.known = map[string][]byte{}
	}
	b.known[strings.Clone(each.text)] = encoded
	return encoded, true
}

func (b *blocks) read(each entry) ([]byte, bool) {
	if each.below != "" {
		if encoded, ok := b.mapping(each.below); ok {
			return encoded, true
		}
	}
	whole, err := yaml.YAMLToJSON([]byte(each.text))
	value, found := bytes.CutPrefix(whole, []byte(`{"`+each.key+`":`))
	return bytes.TrimSuffix(value, []byte("}")), err == nil && found
}

// split takes a block mapping apart; false when the text is not plainly one.
func split(text string) ([]entry, bool) {
	var entries []entry
	indent, start := -1, 0
	beside := false
	finish := func(end int) {
		if last := len(entries) - 1; last >= 0 {
			entries[last].text = text[start:end]
			if newline := strings.IndexByte(entries[last].text, '\n'); !beside && newline >= 0 {
				entries[last].below = entries[last].text[newline+1:]
			}
		}
	}
	for at := 0; at < len(text); {
		end := len(text)
		if newline := strings.IndexByte(text[at:], '\n'); newline >= 0 {
			end = at + newline + 1
		}
		line := strings.TrimRight(text[at:end], " \n")
		content := strings.TrimLeft(line, " ")
		depth := len(line) - len(content)
		switch {
		case content == "" || content[0] == '#':
			// Belongs to whatever is around it; a "#" inside of a block scalar too.
		case indent >= 0 && depth > indent:
			// Of the entry before.
		case indent >= 0 && depth == indent && (content == "-" || strings.HasPrefix(content, "- ")):
			if beside || len(entries) == 0 {
				return nil, false
			}
		case indent >= 0 && depth < indent:
			return nil, false
		default:
			key, rest, ok := plainKey(content)
			if !ok {
				return nil, false
			}
			finish(at)
			indent, start = depth, at
			entries, beside = append(entries, entry{key: key}), rest != ""
		}
		at = end
	}
	finish(len(text))
	return entries, len(entries) > 0
}

// plainKey takes "key:" or "key: value" apart; false for keys that are quoted, complex, or no strings in YAML 1.1.
func plainKey(content string) (key, rest string, ok bool) {
	colon := strings.IndexByte(content, ':')
	if colon <= 0 || (colon+1 < len(content) && content[colon+1] != ' ') {
		return "", "", false
	}
	key, rest = content[:colon], strings.TrimLeft(content[colon+1:], " ")
	for index := 0; index < len(key); index++ {
		letter := key[index]|0x20 >= 'a' && key[index]|0x20 <= 'z'
		other := letter || (key[index] >= '0' && key[index] <= '9') || strings.IndexByte("-_./", key[index]) >= 0
		if !other || (index == 0 && !letter) {
			return "", "", false
		}
	}
	if strings.HasPrefix(rest, "#") {
		rest = ""
	}
	switch strings.ToLower(key) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return "", "", false
	}
	return key, rest, true
}
