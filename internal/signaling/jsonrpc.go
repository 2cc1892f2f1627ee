package signaling

import (
	"bytes"
	"encoding/json"
	"time"
)

// call is one JSON-RPC 2.0 request object, checked.
type call struct {
	method string
	params json.RawMessage // an object, or nil
	id     json.RawMessage // nil: a notification, which is never answered
	fault  *failure        // the object is no request; answered in its place
}

// parseCalls reads a message: one request object or a batch (§6). A message
// that is neither gives one call with its fault.
func parseCalls(msg []byte) (calls []call, batch bool) {
	msg = bytes.TrimSpace(msg)
	if !json.Valid(msg) {
		return []call{{fault: failf(badJSON, "not JSON"), id: null}}, false
	}
	if msg[0] != '[' {
		return []call{parseCall(msg)}, false
	}
	var all []json.RawMessage
	if err := json.Unmarshal(msg, &all); err != nil || len(all) == 0 {
		return []call{{fault: failf(badRequest, "empty batch"), id: null}}, false
	}
	for _, m := range all {
		calls = append(calls, parseCall(m))
	}
	return calls, true
}

var null = json.RawMessage("null")

func parseCall(msg []byte) call {
	var q struct {
		Version string          `json:"jsonrpc"`
		Method  *string         `json:"method"`
		Params  json.RawMessage `json:"params"`
		ID      json.RawMessage `json:"id"`
	}
	if err := json.Unmarshal(msg, &q); err != nil || q.Version != "2.0" || q.Method == nil {
		return call{fault: failf(badRequest, "no JSON-RPC 2.0 request"), id: null}
	}
	if q.ID != nil && bytes.ContainsAny(q.ID[:1], "{[tf") { // §4: a string, a number or null
		return call{fault: failf(badRequest, "id is neither text nor number"), id: null}
	}
	c := call{method: *q.Method, id: q.ID}
	switch {
	case q.Params == nil || bytes.Equal(q.Params, null):
	case q.Params[0] == '{':
		c.params = q.Params
	default:
		c.fault = failf(badParams, "params: want an object")
	}
	return c
}

// decode reads params into v, a pointer to a struct.
func decode(params json.RawMessage, v any) error {
	if params == nil {
		return nil
	}
	if err := json.Unmarshal(params, v); err != nil {
		return failf(badParams, "params: %v", err)
	}
	return nil
}

// response is one JSON-RPC 2.0 response object.
type response struct {
	Version string          `json:"jsonrpc"`
	Result  any             `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
	ID      json.RawMessage `json:"id"`
}

type rpcError struct {
	Code    int            `json:"code"`
	Message string         `json:"message"`
	Data    map[string]any `json:"data,omitempty"`
}

func respond(id json.RawMessage, res any, f *failure) response {
	if f == nil {
		if res == nil {
			res = struct{}{}
		}
		return response{Version: "2.0", Result: res, ID: id}
	}
	e := &rpcError{Code: kinds[f.kind].rpc, Message: f.detail, Data: map[string]any{"reason": kinds[f.kind].name}}
	if f.retry > 0 {
		e.Data["retry_after"] = f.retry.Round(time.Millisecond).Seconds()
	}
	return response{Version: "2.0", Error: e, ID: id}
}

// marshal encodes what this package made itself: failing is a defect in it,
// which the far side sees as an internal error.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return []byte(`{"jsonrpc":"2.0","error":{"code":-32603,"message":"internal error"},"id":null}`)
	}
	return b
}

func notification(method string, params any) []byte {
	return marshal(struct {
		Version string `json:"jsonrpc"`
		Method  string `json:"method"`
		Params  any    `json:"params"`
	}{"2.0", method, params})
}
