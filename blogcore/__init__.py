"""What the chapters share, one room an idea; above imports from below, never back.

runner                     the command: executes chapters, compares their records
interactive                figures and formulas that a reader moves
show | execution | freshness   figures, verdict boxes | papermill | what is stale
claims                     what was predicted, and the verdict on it
evidence                   seeds x conditions -> table, contrasts, records
training | landscape       the loop | the loss as a function of theta
checkpoint                 how a training goes on as if it had never stopped
pretraining | elbo         what is asked of a language model | of a VAE
objectives                 what is asked of a machine, and regularisers
pretrained | lookups       weights of others | encoders set by hand
spectral                   how far a convolution stretches
optim                      what moves parameters: SGD, Adam, decay, warm-up
networks                   small machines whose parameters carry a leading seed axis
encoder                    text encoders: BERT, T-TA, their heads
sphere | wordvec           random vectors in closed form | drawn and fitted ones
vae                        hierarchical VAEs: the tower up, the one walk down
blocks                     attention, feed-forward, stacks: the algebra of blocks
cells | latents            what a VAE is built from | Gaussians, draws, replay
likelihoods                of integer pixels, summing to one
images                     digits, photographs, faces as integer levels
data | cooccurrence        the world of examples | of word pairs
grammar                    sentences whose meaning is known
texts                      what people wrote, and what they judged
corpus | tokens            languages whose probabilities are known | text to ids
lexicon                    what jieba brings
runtime                    device, profiles, named random streams, safe writing
checks                     bad input, said plainly

Nothing is re-exported: ``from blogcore.objectives import flood`` names the room.
"""
