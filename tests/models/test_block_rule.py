import pytest
import timm
import torch
from timm.utils.model import reparameterize_model
from torchvision.models import densenet121

from motionaware import insert
from motionaware.models.site_hooks import sites


def test_the_rule_chooses_no_norms():
    network = insert(densenet121(), "tsm", num_frames=4, image_size=64)
    assert len(sites(network)) == 58
    assert all(name.endswith("conv1") for name in sites(network))


@pytest.mark.parametrize("name", ["shvit_s1", "repvit_m1", "efficientvim_m1", "repghostnet_050"])
def test_networks_fused_by_timm_keep_their_scores_and_sites(name):
    torch.manual_seed(0)
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    network = insert(timm.create_model(name), "m2a", num_frames=4, image_size=64).eval()
    fused = reparameterize_model(network)
    with torch.no_grad():
        wanted, scores = network(images), fused(images)
    assert (scores - wanted).abs().max() < 1e-3 * wanted.abs().max()
    assert sites(fused) == sites(network)
