package compose

// Environments returns the environment of every active service.
func Environments(p *Project) map[string]map[string]*string {
	all := map[string]map[string]*string{}
	for name, s := range p.model.Services {
		all[name] = map[string]*string{}
		for k, v := range s.Environment {
			all[name][k] = v
		}
	}
	return all
}
