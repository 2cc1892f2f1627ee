package config

import (
	"net/url"
	"strings"
)

// lift moves credentials out of a camera's URLs into username and password,
// where they are treated as the secrets they are.
func lift(tree object, fs *Faults) object {
	cams, _ := tree.get("cameras")
	list, _ := cams.([]any)
	for i, c := range list {
		if cam, ok := c.(object); ok {
			list[i] = liftCamera(cam, path{}.key("cameras").index(i), fs)
		}
	}
	return tree
}

func liftCamera(cam object, p path, fs *Faults) object {
	_, hasName := cam.get("username")
	_, hasPassword := cam.get("password")
	var user *url.Userinfo // of the first URL that has one
	lifted := object{}
	for _, m := range cam {
		if m.key == "source" || m.key == "sub" {
			text, _ := m.value.(string)
			bare, found := liftURL(text)
			switch {
			case found == nil:
			case hasName || hasPassword:
				fs.add(p.key(m.key), "credentials in the %s and in username or password: one of them", m.key)
			case user != nil && *found != *user:
				fs.add(p.key(m.key), "other credentials than in the camera's other URL: a camera has one user")
			default:
				user = found
			}
			if found != nil {
				m.value = bare
			}
		}
		lifted = append(lifted, m)
	}
	if user != nil {
		password, _ := user.Password()
		lifted = append(lifted, member{"username", user.Username()}, member{"password", password})
	}
	return lifted
}

// liftURL parts an rtsp or rtsps URL from its credentials; user is nil where
// it has none, or is no such URL.
func liftURL(s string) (bare string, user *url.Userinfo) {
	scheme, _, _ := strings.Cut(strings.ToLower(s), "://")
	u, err := url.Parse(s)
	if err != nil || u.User == nil || scheme != "rtsp" && scheme != "rtsps" {
		return s, nil
	}
	user, u.User = u.User, nil
	return u.String(), user
}
