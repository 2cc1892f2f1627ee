package web

// Config is the `http` section of the configuration, checked.
type Config struct {
	Listen     string   // listen address, e.g. ":8080"; port 0 means any
	CertFile   string   // PEM; with KeyFile: HTTPS
	KeyFile    string   // PEM
	SelfSigned bool     // HTTPS with a certificate made from the box's own key
	RequireTLS bool     // plain HTTP is answered with 426
	Origins    []string // origins that CORS allows; "*" for all
}
