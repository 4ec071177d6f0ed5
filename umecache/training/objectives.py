"""What a fusion can learn without answers: which image a question is about, and what a hidden token was.

    model = Pretraining(fusion, {"text": 384, "image": 1280}, exchanged=("image",))
    loss, figures = model.objectives(features, image_B)

Shapes: B batch, T tokens of one modality, D width of its features, F width of the fused vector, P width of a position.

*Matching* (LXMERT, Tan and Bansal, EMNLP 2019, arXiv:1908.07490; UNITER, Chen et al., ECCV 2020, arXiv:1909.11740):
half of the questions see the image of another question of the batch, never the same image, and one linear layer on the
fused vector says whether the pair belongs together:

    loss = BCE(w . f + b, pair is right)

*Masked features* (the same papers' masked regions; conditional masking as in UNITER: one modality of a sample is
masked, the others stay whole). A share of its tokens becomes a learned vector, and one of them is asked for. Methods
give one vector [B, F] and no token, so the question goes to that vector, together with the token's place: a small map
per modality guesses the feature from both, and must find it among one token of each sample of the batch (InfoNCE, van
den Oord et al., arXiv:1807.03748; for masked features in HERO, Li et al., EMNLP 2020, arXiv:2005.00200):

    g = MLP_m([f; place(t)])        loss = -log softmax_j(cos(g, norm(h_j)) / tau) at its own token

A contrast rather than a regression, since tokens of a frozen encoder have much in common, which a regression would be
paid for. Equal tokens of other samples (the same words, the same image) are no wrong answers and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layer_mix import LayerMix
from umecache.fusion.layers import zero_padding
from umecache.training.model import FusionClassifier

OBJECTIVES = ("match", "mask")
FIGURES = ("match_loss", "match_accuracy", "mask_loss", "mask_accuracy")
"""What `objectives` tells of a batch; accuracies in percent."""
PLACE = 64  # P
TEMPERATURE = 0.1
EQUAL = 0.9999  # cosine of two tokens that are the same one


@dataclass(frozen=True, slots=True)
class Masked:
    """Features with one modality of each sample partly hidden.

    Attributes:
        features: what the fusion sees.
        asked: [B] number of the modality that is hidden.
        place: modality -> [B] position of the token that is asked for.
        token: modality -> [B, D] that token as it was, every modality's.
        real: modality -> [B] whether there is such a token.
    """

    features: Features
    asked: Tensor
    place: Mapping[str, Tensor]
    token: Mapping[str, Tensor]
    real: Mapping[str, Tensor]


class Pretraining(FusionClassifier):
    """A fusion with what its objectives need; its classifier has one output, "the pair is right".

    Args:
        fusion: any method that joins modalities.
        dims: modality -> width of its features, as the fusion sees them.
        exchanged: the modalities that come from another sample in a wrong pair.
        share: of a hidden modality's tokens.
        objectives: which of `OBJECTIVES`.
        mix: joins the layers of a modality before the fusion.
    """

    def __init__(
        self,
        fusion: Fusion,
        dims: Mapping[str, int],
        *,
        exchanged: Sequence[str],
        share: float = 0.15,
        objectives: Sequence[str] = OBJECTIVES,
        mix: LayerMix | None = None,
    ) -> None:
        super().__init__(fusion, 1, mix)
        self.modalities, self.exchanged, self.share = tuple(dims), tuple(exchanged), share
        self.objective_names = tuple(objectives)
        # Lists, not dicts by name: a modality may bear any name, a parameter may not.
        self.hidden = nn.ParameterList(torch.randn(dim) for dim in dims.values())
        self.guess = nn.ModuleList(
            nn.Sequential(nn.Linear(fusion.out_dim + PLACE, fusion.out_dim), nn.GELU(), nn.Linear(fusion.out_dim, dim))
            for dim in dims.values()
        )

    def objectives(self, features: Features, image_B: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and the `FIGURES` [4] (NaN for an objective that is not asked for).

        Args:
            features: of right pairs.
            image_B: the image of each; equal ones are never exchanged.
        """
        seen = features if self.mix is None else self.mix(features)
        seen = {name: (zero_padding(*seen[name]), seen[name][1]) for name in self.modalities}
        nothing = torch.full((2,), torch.nan, device=image_B.device)
        match = self.match(seen, image_B) if "match" in self.objective_names else nothing
        mask = self.mask(seen) if "mask" in self.objective_names else nothing
        parts = {"match": match[0], "mask": mask[0]}
        loss = torch.stack([parts[name] for name in self.objective_names]).sum()
        return loss, torch.cat([match, mask]).detach()

    def match(self, features: Features, image_B: Tensor) -> Tensor:
        """Loss and accuracy of telling right pairs from wrong ones [2]."""
        there_B = torch.stack([features[name][1].any(1) for name in self.exchanged]).all(0)
        other_B, found_B = another(image_B, there_B)
        wrong_B = torch.rand(len(image_B), device=image_B.device) < 0.5
        from_B = torch.where(wrong_B & found_B, other_B, torch.arange(len(image_B), device=image_B.device))
        shown = {
            name: (tokens_BTD[from_B], mask_BT[from_B]) if name in self.exchanged else (tokens_BTD, mask_BT)
            for name, (tokens_BTD, mask_BT) in features.items()
        }
        logit_B = self.classifier(self.fusion(shown)).squeeze(1).float()
        loss_B = F.binary_cross_entropy_with_logits(logit_B, (~wrong_B).float(), reduction="none")
        return _mean(loss_B, 100.0 * ((logit_B > 0) != wrong_B), over=found_B)

    def mask(self, features: Features) -> Tensor:
        """Loss and accuracy of finding hidden tokens [2]."""
        masked = self.hide(features)
        f_BF = self.fusion(masked.features)
        losses, hits, counted = [], [], []
        with torch.autocast(f_BF.device.type, enabled=False):  # cosines near 1 are compared
            for number, (name, guess) in enumerate(zip(self.modalities, self.guess, strict=True)):
                guessed_BD = guess(torch.cat([f_BF.float(), place_code(masked.place[name])], dim=1))
                loss_B, hit_B = find(guessed_BD, masked.token[name].float(), masked.real[name])
                losses.append(loss_B)
                hits.append(100.0 * hit_B)
                counted.append((masked.asked == number) & masked.real[name])
        return _mean(torch.cat(losses), torch.cat(hits), over=torch.cat(counted))

    def hide(self, features: Features) -> Masked:
        """Hide a share of one modality's tokens in every sample, at least the one that is asked for."""
        some, _ = features[self.modalities[0]]
        rows_B = torch.arange(len(some), device=some.device)
        asked_B = torch.randint(len(self.modalities), (len(some),), device=some.device)
        shown, place, token, real = {}, {}, {}, {}
        for number, (name, vector_D) in enumerate(zip(self.modalities, self.hidden, strict=True)):
            tokens_BTD, mask_BT = features[name]
            place_B = torch.rand(mask_BT.shape, device=some.device).masked_fill(~mask_BT, -1).argmax(1)
            hidden_BT = torch.rand(mask_BT.shape, device=some.device) < self.share
            hidden_BT[rows_B, place_B] = True
            hidden_BT &= mask_BT & (asked_B == number)[:, None]
            shown[name] = torch.where(hidden_BT[..., None], vector_D.to(tokens_BTD.dtype), tokens_BTD), mask_BT
            place[name], token[name] = place_B, tokens_BTD[rows_B, place_B].detach()
            real[name] = mask_BT.any(1)
        return Masked(shown, asked_B, place, token, real)


def another(image_B: Tensor, there_B: Tensor) -> tuple[Tensor, Tensor]:
    """For each sample one of another image, drawn evenly [B], and whether there is one [B]; samples whose own image
    could not be read have none, and nobody gets theirs.
    """
    fits_BB = (image_B[:, None] != image_B) & there_B[:, None] & there_B
    drawn_BB = torch.rand(fits_BB.shape, device=image_B.device).masked_fill(~fits_BB, -1)
    return drawn_BB.argmax(1), fits_BB.any(1)


def find(guessed_BD: Tensor, token_BD: Tensor, real_B: Tensor) -> tuple[Tensor, Tensor]:
    """Each guess against one token of every sample: the loss [B], and whether its own is the likeliest [B].

    Samples without a token, and tokens that equal the own one, are no candidates.
    """
    token_BD = F.normalize(F.layer_norm(token_BD, token_BD.shape[1:]), dim=1)
    itself_BB = torch.eye(len(token_BD), dtype=torch.bool, device=token_BD.device)
    out_BB = ((token_BD @ token_BD.T > EQUAL) | ~real_B) & ~itself_BB
    logits_BB = (F.normalize(guessed_BD, dim=1) @ token_BD.T / TEMPERATURE).masked_fill(out_BB, -torch.inf)
    own_B = torch.arange(len(token_BD), device=token_BD.device)
    return F.cross_entropy(logits_BB, own_B, reduction="none"), logits_BB.argmax(1) == own_B


def place_code(place_B: Tensor) -> Tensor:
    """Sine and cosine of a position at `PLACE` / 2 wavelengths, [B, P] (Vaswani et al., NeurIPS 2017,
    arXiv:1706.03762): any length, nothing to learn.
    """
    steps = torch.arange(PLACE // 2, device=place_B.device) * (-2 * math.log(10_000.0) / PLACE)
    angle_BQ = place_B[:, None] * steps.exp()
    return torch.cat([angle_BQ.sin(), angle_BQ.cos()], dim=1)


def _mean(*figures: Tensor, over: Tensor) -> Tensor:
    """Means over some of the samples; zero, with a gradient of zero, where there are none."""
    count = over.sum().clamp(min=1)
    return torch.stack([torch.where(over, figure, 0.0).sum() / count for figure in figures])
