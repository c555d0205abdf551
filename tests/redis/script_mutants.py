"""The scripts with one thing broken, many times over. Tests that do not notice one of these would not notice that mistake.

A mutant is a piece of the Lua text replaced by another, so it says so when the text has changed and it is a mutant no more.
``python -m tests.redis.script_mutants`` says after how many cases each is caught.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import redis

from graflow.backends.redis.scripts import Script
from graflow.backends.redis.scripts.runs import BEAT, CLAIM, CONTROL, REAP, SETTLE, SUBMIT
from tests.redis.crowds import play_crowd
from tests.redis.script_cases import forget_all, run_case
from tests.redis.server import RedisServer

SCRIPTS = (SUBMIT, SETTLE, CLAIM, CONTROL, REAP, BEAT)


@dataclass(frozen=True)
class Mutant:
    """What is broken, the piece of text, and what stands there instead. ``first`` is the case, or crowd, to begin with: for what few show."""

    name: str
    text: str
    instead: str
    first: int = 0

    def scripts(self) -> Mapping[str, Script]:
        """The scripts that have the text, broken, by name."""
        return _broken(self)


@cache
def _broken(mutant: Mutant) -> Mapping[str, Script]:
    found = {
        script.name: Script(script.name, text=script.source.replace(mutant.text, mutant.instead))
        for script in SCRIPTS
        if mutant.text in script.source
    }
    assert found, f"{mutant.name}: no script has the text any more: {mutant.text}"
    return found


MODEL_MUTANTS = (
    Mutant("an attempt is not checked", "and M.cycle(r, n) == cycle and M.attempt(r, n) == attempt", ""),
    Mutant("a goto does not wait for what its target waits for", "add(r.looks, target)\n", "M.visit(r, target, { goto_[2] })\n"),
    Mutant("a large join forgets to count an edge back", "if after == 0 then j[1] = j[1] + 1", "if after == 0 then j[1] = j[1]", 48),
    Mutant(
        "a small join counts broken edges as fired",
        "fired = fired + 1 elseif d == BREAK then broken = broken + 1 end",
        "fired = fired + 1 end",
    ),
    Mutant("exits of a loop are not held", "local outs = rec[RELEASED] or rec[OUTS]", "local outs = rec[OUTS]"),
    Mutant(
        "a back edge fires at once",
        "  M.want_on_success(r, n)\n  M.release(r, n)\nend",
        """  M.want_on_success(r, n)
  M.release(r, n)
  for _, k in ipairs(M.rec(r, n)[AROUND] or {}) do
    local loop = M.loop(r, k)
    for i = 1, #loop.rec[OF_LOOP.BACK], 2 do
      if loop.rec[OF_LOOP.BACK][i + 1] == n and want(r, loop.rec[OF_LOOP.BACK][i]) == FIRE then return M.turn(r, loop) end
    end
  end
end""",
    ),
    Mutant("a loop goes round though somebody left it", "d.b == 0 and #(d.l or {}) == 0 and", "d.b == 0 and"),
    Mutant("a loop with a failure goes round", "if d.b == 0 and #(d.l or {}) == 0", "if #(d.l or {}) == 0", 130),
    Mutant(
        "a reset undoes edges from outside",
        "  local last = math.min(#outs, most and",
        """  local ins = M.rec(r, n)[INS]
  for i = 1, #ins, 4 do
    for e = ins[i], ins[i + 1] do M.undo(r, e, n) end
  end
  local last = math.min(#outs, most and""",
    ),
    Mutant("a loop entered in its midst keeps its exits", "if not region.holds(loop.rec[OF_LOOP.BODY]) then", "if false then", 122),
    Mutant(
        "body nodes with edges from outside run in the first round only",
        "M.join(r, n) == 0 then add(r.looks, n) end",
        "false then end",
        776,
    ),
    Mutant("gotos outlive the visit that made them", "if not region[goto_[3]] then", "if true then"),
    Mutant("a decided group does not cancel its members", "M.stop_members(r, sc)\n  local members, lasts", "local members, lasts"),
    Mutant("an early group does not cancel its members", "M.stop_members(r, sc)\n  M.complete_group", "M.complete_group"),
    Mutant("early success waits for all", "if sc.d.o > 0 then return M.close_early(r, sc) end", "if sc.d.o > 0 then return end"),
    Mutant("a failed branch has a result", "if last or not is_bad(r, sc, M.branch(M.rec(r, n), n)) then", "if true then"),
    Mutant("a place is not given back", "if before == ACTIVE and b >= PLACED then M.give_place_back(r, sc, n) end", ""),
    Mutant(
        "a suspended step keeps its place", "if has(r, n, PLACED) then M.give_place_back(r, M.scope(r, M.rec(r, n)[SCOPE]), n) end", "", 80
    ),
    Mutant("limits are ignored", "if (d.p or 0) >= limit then", "if false then"),
    Mutant("a continuation is not outstanding", "r.v[CONTINUING], r.v[OUT] = 1, r.v[OUT] + 1", "r.v[CONTINUING] = 1"),
    Mutant("what is put off is forgotten", "rest(r.edges), rest(r.looks)", "{}, rest(r.looks)"),
    Mutant("retries are not reset by a visit", "x[VISIT] + 1, 1, 0", "x[VISIT] + 1, 1, x[RETRIES]"),
    Mutant("a retry is no other attempt", "  x[EXTRA_ATTEMPT] = x[EXTRA_ATTEMPT] + 1\n  if counted", "  if counted"),
    Mutant(
        "a failure leaves the result of an earlier visit",
        "M.drop_result(r, n)\n  local rec = M.rec(r, n)\n  M.note(r, rec",
        "local rec = M.rec(r, n)\n  M.note(r, rec",
    ),
    Mutant("a success leaves the error of an earlier visit", "M.drop_error(r, n) -- of an earlier visit", ""),
    Mutant("tasks of the last visit are not forgotten", "M.forget_dynamic(r, sc)\n  if sc.group", "if sc.group"),
    Mutant("visits of one task overlap", "if alive and M.status(r, n) <= ACTIVE then", "if false then", 118),
    Mutant(
        "an iteration stores its result",
        "    M.iterate(r, n, asked.iteration)",
        "    M.record(r, n, value, items)\n    M.iterate(r, n, asked.iteration)",
    ),
    Mutant("a failure edge fires on success", "outs[i + 4] == 1 and SKIP or FIRE)", "FIRE)"),
    Mutant("a handled failure breaks the run", "M.mark(r, n, HANDLED)", "M.mark(r, n, FAILED)"),
    Mutant(
        "members of a skipped group stay as they were",
        "M.pass_over_members(r, M.scope(r, n), status) end\n  M.want_all",
        "end\n  M.want_all",
    ),
    Mutant("one step too many", "r.v[STEPS] >= r.v[STEP_LIMIT]", "r.v[STEPS] > r.v[STEP_LIMIT]"),
    Mutant("start= skips nothing", "        M.rule_out(r, e, target)\n", ""),
    Mutant("surplus members stay", "if first <= pool[i + 1] then", "if false then", 108),
    Mutant("who led to a node is not forgotten", "    change(r, n)[CAME_FROM] = false\n", ""),
    Mutant("a second visit looks like the first", "flag(r, n, EXTRA, true)", "flag(r, n, EXTRA, has(r, n, EXTRA))"),
    Mutant("pages of edges are not written back", "  r.dirty[kind][k] = true", "  r.dirty[kind][k] = kind == 's' or nil"),
    Mutant("holes of a page are not filled", "for hole = #page + 1, i - 1 do page[hole] = 0 end", ""),
    Mutant(
        "a branch alike others is the first one",
        "rec.base and rec.base + n or rec[BRANCH]",
        "rec.base and rec.base + rec.last or rec[BRANCH]",
    ),
    Mutant("many that are taken back count as one", "r.v[OUT] = r.v[OUT] - (hi - lo + 1)", "r.v[OUT] = r.v[OUT] - 1", 640),
    Mutant("many that are taken back keep their places", "if not r.ended then M.give_places_back(r, sc, hi - lo + 1) end", "", 470),
    Mutant("many that are cancelled are told as the first of them", "not alone and pack(list)", "not alone and pack({ list[1], list[1] })"),
    Mutant("a stretch of nodes ends too late", "other <= last and other - 1 or last", "other <= last and other or last"),
    Mutant("a sweep opens nothing", "d.o = d.o + number * opened", "d.o = d.o"),
    Mutant("a sweep breaks no branches", "d.b = (d.b or 0) + number * spoilt", "d.b = d.b"),
    Mutant("branches that are swept have not succeeded", "M.count_good(r, sc, number * (", "M.count_good(r, sc, 0 * (", 280),
    Mutant("a sweep forgets that attempts were repeated", "if not x and text then", "if false then"),
    Mutant("a sweep leaves steps suspended", "if suspended then M.forget_suspension(r, n) elseif", "if"),
    Mutant(
        "a node beside a member is not its branch",
        "if own and not sc.d.d then return 0 end\n  local open",
        "if own then return 0 end\n  local open",
    ),
    Mutant("what runs in a region that is going round is taken", "and not (in_pieces(r) and M.is_void(r, n))", "", 255),
    Mutant("a region that is going round is not visited again", "if M.status(r, n) == WAITING then M.visit(r, n, hi) end", ""),
    Mutant("only the first edges of a node are undone", "return last < #outs and last + 1 or nil", "return nil"),
    Mutant("edges that came while others were put by are forgotten", "for _, item in ipairs(r.tail) do add(here, item) end", "", 8280),
    Mutant("edges that were put by are forgotten", "r.edges = unpacked(field(r, name))", "r.edges = {}"),
    Mutant(
        "body nodes are not looked at after pieces",
        "return wait_for_region(r, VISIT_THERE, scope, header, came_from)",
        "return M.visit(r, header, came_from)",
    ),
    Mutant(
        "a goto does not wait for its region",
        "if later then wait_for_region(r, GO_THERE, M.rec(r, goto_[1])[SCOPE], goto_) else",
        "if not later then",
        118,
    ),
)

PROTOCOL_MUTANTS = (
    Mutant(
        "an outcome need not be acknowledged",
        "if call('XACK', P .. 'q:' .. stream, 'g', id) == 0 then return 0 end",
        "call('XACK', P .. 'q:' .. stream, 'g', id)",
    ),
    Mutant("an expired lease is brought back to life", "or tonumber(known) < now", ""),
    Mutant(
        "the reaper only knows leases that have lapsed",
        "return lease and tonumber(lease) >= M.now()",
        "return not lease or tonumber(lease) >= M.now()",
    ),
    Mutant("a lost attempt is not counted up", "x[EXTRA_ATTEMPT] = x[EXTRA_ATTEMPT] + 1\n  enqueue", "enqueue"),
    Mutant("a lost attempt is not put back in line", "  enqueue(stream, message(r, n, cycle, x[EXTRA_ATTEMPT], retries, cost + 1))", ""),
    Mutant(
        "a lost continuation is not put back in line",
        "if n == CONTINUATION then return enqueue(stream, text) end\n  r.v",
        "if n == CONTINUATION then return end\n  r.v",
    ),
    Mutant("what is due stays among what is put off", "many('ZREM', P .. 'delayed', due)", ""),
    Mutant("a run that is over leaves what it has put off", "    if ends then forget_due(r) end\n", ""),
    Mutant("what is put in line is put off still", "then call('SREM', P .. 'later:' .. m[2], member) end", "then end"),
    Mutant("suspects are held together", "if risk > 0 and math.max(risk, cost) >= LAST_CHANCE then return false end", "", 80),
    Mutant("another run of that id is not told apart", "r.v[GENERATION] ~= generation", "false", 128),
    Mutant(
        "a run that is submitted twice begins twice",
        "if known[4] == token then return { 'created', known[1], unpacked(known[5])[GENERATION] } end",
        "",
    ),
    Mutant("what no longer counts stays pending", "call('XACK', P .. 'q:' .. stream, 'g', id)\n  dropped", "dropped"),
    Mutant("what is handed back is not put in line", "if M.is_running(r, n, cycle, attempt) then enqueue(stream, o[9]) end", ""),
    Mutant(
        "what a read is interrupted with is not put back",
        "n == CONTINUATION and not M.is_over(r) then enqueue(stream, o[9]) end",
        "n == CONTINUATION then return 1 end",
    ),
    Mutant("what is taken again counts again", "  if not again then\n", "  if true then\n"),
    Mutant("an answer to a suspended step is taken twice", "if field(r, 'token of ' .. n) == ARGV[6] then", "if false then"),
    Mutant("attempts of an ended run stay counted", "r.v[LIVE] = r.v[LIVE] - 1\n  if kind == 'n'", "if kind == 'n'"),
    Mutant("a stream has no life span", "call('EXPIRE', key, 86400) end", "end"),
)


def cases_until_caught(server: redis.Redis, mutant: Mutant, most: int) -> tuple[int, str] | None:
    """After how many cases, from its first on, a mutant is caught, and by what; None if it survives ``most`` of them."""
    forget_all(server)
    broken = mutant.scripts()
    for number in range(mutant.first, mutant.first + most):
        try:
            run_case(server, number, broken)
        except Exception as error:
            return number - mutant.first + 1, f"{type(error).__name__}: {error}"
    return None


def crowds_until_caught(server: redis.Redis, mutant: Mutant, most: int) -> tuple[int, str] | None:
    """After how many crowds of workers, from its first on, a mutant is caught, and by what; None if it survives ``most`` of them."""
    broken = mutant.scripts()
    for number in range(mutant.first, mutant.first + most):
        try:
            play_crowd(server, number, broken)
        except Exception as error:
            return number - mutant.first + 1, f"{type(error).__name__}: {error}"
    return None


def main() -> int:
    """Tell how soon each is caught. Returns how many survive."""
    survivors = 0
    with RedisServer() as running, redis.Redis.from_url(running.url) as server:
        for mutant in (*MODEL_MUTANTS, *PROTOCOL_MUTANTS):
            caught = (cases_until_caught if mutant in MODEL_MUTANTS else crowds_until_caught)(server, mutant, 600)
            survivors += caught is None
            told = "SURVIVED" if caught is None else f"caught after {caught[0]:4} cases: {caught[1][:110]}"
            print(f"{mutant.name:62} {told}")
    return survivors


if __name__ == "__main__":
    sys.exit(main())
