/**
 * What somebody probably meant by a key that does not exist: the same word in another spelling (`hidden_size`), one
 * with a slip of the finger, the same key in the section where it belongs, or another library's name for it.
 */

/** Names that people bring along from transformers, PyTorch and nanoGPT. */
const brought: Record<string, string> = {
  numhiddenlayers: 'layers',
  nlayer: 'layers',
  nlayers: 'layers',
  nembd: 'hiddenSize',
  dmodel: 'hiddenSize',
  nhead: 'attentionHeads',
  nheads: 'attentionHeads',
  heads: 'attentionHeads',
  numattentionheads: 'attentionHeads',
  numkeyvalueheads: 'keyValueHeads',
  kvheads: 'keyValueHeads',
  rmsnormeps: 'rmsNormEpsilon',
  vocabsize: 'vocabularySize',
  lr: 'learningRate',
  maxiters: 'steps',
  maxsteps: 'steps',
  blocksize: 'sequenceLength',
  contextlength: 'sequenceLength',
  gradclip: 'clipNorm',
  eps: 'epsilon',
  h: 'innerSteps',
  peers: 'minimumPeers',
}

/**
 * @param path the unknown key with its section
 * @param known all keys that exist, each with its section
 * @returns a key of the same section by its name alone, one of another section in dotted form, or nothing
 */
export function nearestKey(
  path: readonly string[],
  known: readonly (readonly string[])[],
): string | undefined {
  const section = path.slice(0, -1).join('.')
  const word = normalised(path.at(-1)!)
  const wanted = normalised(brought[word] ?? word)
  const limit = Math.max(1, Math.floor(wanted.length / 3))
  const ranked = known
    .map((key) => {
      const elsewhere = key.slice(0, -1).join('.') !== section
      return { key, elsewhere, distance: editDistance(wanted, normalised(key.at(-1)!)) }
    })
    .filter(({ elsewhere, distance }) => distance <= (elsewhere ? Math.min(1, limit) : limit))
    // A slip in the right section is likelier than an equal slip in another.
    .sort((a, b) => a.distance + Number(a.elsewhere) - (b.distance + Number(b.elsewhere)))
  const best = ranked[0]
  if (best === undefined) return undefined
  return best.elsewhere ? best.key.join('.') : best.key.at(-1)
}

function normalised(key: string): string {
  return key.toLowerCase().replace(/[^a-z0-9]/g, '')
}

/** Insertions, deletions, replacements and swaps of neighbours (optimal string alignment). */
function editDistance(one: string, other: string): number {
  const rows: number[][] = [Array.from({ length: other.length + 1 }, (_, j) => j)]
  for (let i = 1; i <= one.length; i++) {
    const row = [i]
    for (let j = 1; j <= other.length; j++) {
      const replaced = rows[i - 1]![j - 1]! + Number(one[i - 1] !== other[j - 1])
      let best = Math.min(replaced, rows[i - 1]![j]! + 1, row[j - 1]! + 1)
      const swapped = i > 1 && j > 1 && one[i - 1] === other[j - 2] && one[i - 2] === other[j - 1]
      if (swapped) best = Math.min(best, rows[i - 2]![j - 2]! + 1)
      row.push(best)
    }
    rows.push(row)
  }
  return rows[one.length]![other.length]!
}
