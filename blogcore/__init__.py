"""What the chapters share, one room an idea; above imports from below, never back.

runner                     the command: executes chapters, compares their records
interactive                figures and formulas that a reader moves
show | execution | freshness   figures, verdict boxes | papermill | what is stale
claims                     what was predicted, and the verdict on it
evidence                   seeds x conditions -> table, contrasts, records
finetuning                 labels: train, keep the best, scores
training | landscape       the loop | the loss as a function of theta
checkpoint                 how a training goes on as if it had never stopped
pretrained                 weights of others
pseudolikelihood           how probable a language model finds a text
electra                    a generator that fills holes, and who looks for them
processes                  a training that several processes share
cloze | elbo               what is asked of a language model | of a VAE
objectives                 what is asked of a machine, and regularisers
lookups                    encoders set by hand, and what fools the others
spectral                   how far a convolution stretches
optim                      what moves parameters: SGD, Adam, decay, warm-up
networks                   small machines whose parameters carry a leading seed axis
encoder | costs            text encoders: BERT, ALBERT, T-TA | their arithmetic
sphere | wordvec           random vectors in closed form | drawn and fitted ones
vae                        hierarchical VAEs: the tower up, the one walk down
embeddings                 tables of tokens, places and segments
blocks                     attention, feed-forward, stacks: the algebra of blocks
cells | latents            what a VAE is built from | Gaussians, draws, replay
likelihoods                of integer pixels, summing to one
images | tasks             images as integer levels | labelled texts
data | cooccurrence        the world of examples | of word pairs
grammar                    sentences whose meaning is known
texts                      what people wrote, and what they judged
corpus | tokens            languages whose probabilities are known | text to ids
lexicon                    what jieba brings
tables                     rows of text files, in archives too
runtime                    device, profiles, named random streams, safe writing
checks                     bad input, said plainly

Nothing is re-exported: ``from blogcore.objectives import flood`` names the room.
"""
