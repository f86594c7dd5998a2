package aws

// Waiting is how many questions for a value wait for others to be answered.
func (p *Provider) Waiting() int {
	if s, ok := p.current.(*secrets); ok {
		return s.current.length()
	}
	return p.current.(*parameters).clear.length()
}

func (b *batch[T]) length() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}
