-- ARGV: shift, run. Returns the keys, or "more" if there was so much to free that this is to be asked again.

if lapse() then return 'more' end
return call('HKEYS', ch)
