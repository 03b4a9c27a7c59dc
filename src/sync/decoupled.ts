/**
 * The merge of Decoupled DiLoCo (Douillard et al. 2026, https://arxiv.org/abs/2604.21428), for peers of very different
 * speed: DiLoCo whose updates are averaged radially and directionally, tensor by tensor, so that the length of a step
 * does not depend on how many peers came in time. Embedding and output matrix are averaged plainly, as there: their
 * updates are not nearly orthogonal.
 *
 * Its weights are quantity times quality, tokens · (tokens / steps). All steps of a run have the same number of tokens, so these
 * are its tokens but for a factor that cancels. The quorum and the grace window of that system are the round policy of a run, and its
 * fragments those of Streaming DiLoCo; neither is part of this method.
 */
import { plainAverage, radialDirectionalAverage } from './aggregate.ts'
import {
  averagedPseudoGradients,
  type DilocoLocal,
  type DilocoOptions,
  type DilocoState,
  type DilocoUpdate,
} from './diloco.ts'
import type { SyncMethod } from './method.ts'

export const decoupled = (options: DilocoOptions): SyncMethod<DilocoState, DilocoLocal, DilocoUpdate> =>
  averagedPseudoGradients('decoupled', options, ({ name }) =>
    isVocabularyMatrix(name) ? plainAverage : radialDirectionalAverage,
  )

function isVocabularyMatrix(name: string): boolean {
  return name === 'model.embed_tokens.weight' || name === 'lm_head.weight'
}
