// Package ext stands in for a module that only Traefik's own source tree has: extension points, empty as published.
package ext

type (
	// HTTP is what an extension may add to the HTTP configuration.
	// +k8s:deepcopy-gen=true
	HTTP struct{}
	// Router is what an extension may add to a router.
	Router struct{}
)

// DeepCopyInto copies the receiver.
func (in *HTTP) DeepCopyInto(out *HTTP) { *out = *in }

// DeepCopyInto copies the receiver.
func (in *Router) DeepCopyInto(out *Router) { *out = *in }
