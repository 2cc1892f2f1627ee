package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// Every value, in the database and in plain files, is framed as
//
//	"e1 " CRC "\n" payload
//
// where CRC is the CRC-32C, in eight lower-case hexadecimal digits, of bucket,
// NUL, key, NUL, payload: bbolt's pages carry no checksum of their own, and a
// value must not be readable under another key.
const frameTag = "e1 "

const frameHead = len(frameTag) + 8 + 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(bucket, key string, payload []byte) uint32 {
	sum := crc32.Update(0, castagnoli, []byte(bucket+"\x00"+key+"\x00"))
	return crc32.Update(sum, castagnoli, payload)
}

// seal frames a payload for its place.
func seal(bucket, key string, payload []byte) []byte {
	out := make([]byte, 0, frameHead+len(payload))
	out = fmt.Appendf(out, "%s%08x\n", frameTag, checksum(bucket, key, payload))
	return append(out, payload...)
}

// unseal checks a frame and returns its payload, which shares its memory.
func unseal(bucket, key string, frame []byte) ([]byte, error) {
	if len(frame) < frameHead || string(frame[:len(frameTag)]) != frameTag || frame[frameHead-1] != '\n' {
		return nil, errors.New("not a framed value")
	}
	payload := frame[frameHead:]
	want := fmt.Sprintf("%08x", checksum(bucket, key, payload))
	if got := string(frame[len(frameTag) : frameHead-1]); got != want {
		return nil, fmt.Errorf("checksum %q, not %q", got, want)
	}
	return payload, nil
}

// record is a document as saved, with what only the store needs to know.
type record struct {
	Document
	seq  uint64 // rises with every save, for ever
	conn uint64 // the connection counter when it was saved; see healedConn
}

// header is the first line of an encoded record; the document follows.
type header struct {
	Seq    uint64    `json:"seq"`
	Source string    `json:"source"`
	Epoch  uint64    `json:"epoch"`
	Rev    uint64    `json:"rev"`
	Hash   string    `json:"hash"`
	Saved  time.Time `json:"saved"`
	Conn   uint64    `json:"conn"`
}

func (r record) encode() ([]byte, error) {
	head, err := json.Marshal(header{
		Seq: r.seq, Source: r.Source, Epoch: r.Epoch, Rev: r.Rev,
		Hash: hex.EncodeToString(r.Hash[:]), Saved: r.Saved, Conn: r.conn,
	})
	if err != nil {
		return nil, err
	}
	return append(append(head, '\n'), r.Bytes...), nil
}

func decodeRecord(payload []byte) (record, error) {
	line, doc, ok := bytes.Cut(payload, []byte("\n"))
	if !ok {
		return record{}, errors.New("no header line")
	}
	var h header
	if err := json.Unmarshal(line, &h); err != nil {
		return record{}, fmt.Errorf("header: %w", err)
	}
	r := record{
		Document: Document{Bytes: bytes.Clone(doc), Source: h.Source, Epoch: h.Epoch, Rev: h.Rev, Saved: h.Saved},
		seq:      h.Seq,
		conn:     h.Conn,
	}
	if hash, err := hex.DecodeString(h.Hash); err != nil || len(hash) != sha256.Size {
		return record{}, fmt.Errorf("header: hash %q is not a SHA-256", h.Hash)
	} else {
		copy(r.Hash[:], hash)
	}
	return r, nil
}
