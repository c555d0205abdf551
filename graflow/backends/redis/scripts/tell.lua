-- What tasks tell while they run, when no outcome is on its way that could take it along. ARGV: shift, budget, what is told.

tell_all(unpacked(ARGV[3]))
write_back()
return 1
