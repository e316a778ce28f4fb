// What stands of a list of decisions.

/** Was it decided on this calendar day? */
export function isToday(decision) {
  return new Date(decision.time).toDateString() === new Date().toDateString();
}

/** Decisions that no later undo took back: the history that undo walks, oldest first. */
export function standing(decisions) {
  const stacks = new Map();
  const taken = new Set();
  const unique = [...new Map(decisions.map((one) => [one.decision_id, one])).values()];
  for (const one of unique) {
    const stack = stacks.get(one.portrait_id) ?? [];
    stacks.set(one.portrait_id, stack);
    if (one.verdict !== "undo") stack.push(one);
    else if (stack.length) taken.add(stack.pop().decision_id);
  }
  return unique.filter((one) => one.verdict !== "undo" && !taken.has(one.decision_id));
}
