/**
 * The merge of Decoupled DiLoCo (Douillard et al. 2026, https://arxiv.org/abs/2604.21428), for peers of very different
 * speed: DiLoCo whose updates are averaged radially and directionally, tensor by tensor, so that the length of a step
 * does not depend on how many peers came in time. Embedding and output matrix are averaged plainly, as there: their
 * updates are not nearly orthogonal.
 *
 * Its weights are quantity times quality, w = tokens · (tokens / steps): whoever calls `merge` gives them as `weight`,
 * by `decoupledWeight`, since only it knows both numbers. The quorum and the grace window of that system are the round
 * policy of a run, and its fragments those of Streaming DiLoCo; neither is part of this method.
 */
import { addRadialDirectional, addShares } from './aggregate.ts'
import {
  averagedPseudoGradients,
  type DilocoLocal,
  type DilocoOptions,
  type DilocoState,
  type DilocoUpdate,
} from './diloco.ts'
import type { SyncMethod } from './method.ts'

/** What one peer's contribution weighs: its tokens, times the tokens of one of its steps. */
export function decoupledWeight(tokens: number, steps: number): number {
  return tokens * (tokens / steps)
}

export const decoupled = (options: DilocoOptions): SyncMethod<DilocoState, DilocoLocal, DilocoUpdate> =>
  averagedPseudoGradients('decoupled', options, ({ name }) =>
    isVocabularyMatrix(name) ? addShares : addRadialDirectional,
  )

function isVocabularyMatrix(name: string): boolean {
  return name === 'model.embed_tokens.weight' || name === 'lm_head.weight'
}
